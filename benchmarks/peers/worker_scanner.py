"""One scanner, in its own environment: a path in, its verdict out.

    python worker_scanner.py keras_secure|modelscan|modelaudit [PATH]

With PATH it scans that alone and ends; without, it takes a path a line. The answer is a line of
JSON: `verdict` (`"flagged"`, `"clean"`, `"failed"` for who says that it could not tell, `"skipped"`
for who does not look into such files), `why`, `seconds`, and the frameworks that it has loaded.
"""

import json
import os
import sys
import time
import traceback

# modelaudit would report home.
os.environ["PROMPTFOO_DISABLE_TELEMETRY"] = os.environ["NO_ANALYTICS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")


def keras_secure():
    from keras_secure.errors import SecurityError
    from keras_secure.integrity.scan import scan

    def judge(path):
        try:
            report = scan(path)
        except SecurityError as error:
            return "failed", [str(error)]
        return (
            "clean" if report.ok else "flagged",
            [f"{one.severity} {one.id}" for one in report.findings],
        )

    return judge


def modelscan():
    import copy
    import logging

    from modelscan.modelscan import ModelScan
    from modelscan.settings import DEFAULT_SETTINGS

    logging.disable(logging.CRITICAL)

    def judge(path):
        scanner = ModelScan(settings=copy.deepcopy(DEFAULT_SETTINGS))
        scanner.scan(path)
        found = [str(issue.severity.name) for issue in scanner.issues.all_issues]
        if found:
            return "flagged", found
        if scanner.errors:
            return "failed", [str(error) for error in scanner.errors]
        return ("clean" if scanner.scanned else "skipped"), []

    return judge


def modelaudit():
    import logging

    from modelaudit.core import scan_model_directory_or_file
    from modelaudit.core_results import determine_exit_code, results_have_security_findings

    logging.disable(logging.CRITICAL)

    def judge(path):
        results = scan_model_directory_or_file(path, cache_enabled=False)
        found = [
            f"{issue.severity} {issue.message}"[:100]
            for issue in results.issues
            if str(getattr(issue.severity, "value", issue.severity)) in ("warning", "critical")
        ]
        if results_have_security_findings(results):
            return "flagged", found
        code = determine_exit_code(results)
        if code == 2 and results.files_scanned == 0:
            return "skipped", found
        return ("clean" if code == 0 else "failed"), found

    return judge


def main():
    # What a scanner prints must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    judge = {"keras_secure": keras_secure, "modelscan": modelscan, "modelaudit": modelaudit}
    judge = judge[sys.argv[1]]()

    def answer(path):
        start = time.perf_counter()
        try:
            verdict, why = judge(path)
        except Exception as error:
            traceback.print_exc()
            verdict, why = "failed", [f"{type(error).__name__}: {error}"[:300]]
        seconds = time.perf_counter() - start
        loaded = [name for name in ("keras", "tensorflow") if name in sys.modules]
        found = {"verdict": verdict, "why": why, "seconds": seconds, "loaded": loaded}
        print(json.dumps(found), file=answers, flush=True)

    if len(sys.argv) > 2:
        answer(sys.argv[2])
        return
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        answer(line.rstrip("\n"))


if __name__ == "__main__":
    main()
