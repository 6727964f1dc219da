"""Our scanner of model files beside modelscan and modelaudit, over one corpus.

    benchmarks/peers/build_keras_versions.sh && python benchmarks/build_scan_corpus.py CORPUS
    benchmarks/peers/build_scanners.sh       (once; leave out with --peers none)
    python benchmarks/scanning.py CORPUS

Each scanner runs in its own environment. In one process it judges every file, in turns with the
others; and for every STRIDE-th file a process of its own is started as a user would. Printed are:
recall over the kinds and over their mutations, by what they would do and by format, and false
alarms on clean exports; median and largest time for a file, with the ratio to ours; which of Keras
and TensorFlow was loaded; and every kind that was missed. A scanner that says it failed, that took
more than 30 s, or that does not look into such a file has not flagged it: these are counted apart.

Exits with 1 when ours misses a promise: recall 0.99, no false alarm, a median under 0.5 s, and
neither framework loaded.
"""

import argparse
import collections
import contextlib
import json
import os
import resource
import selectors
import statistics
import subprocess
import sys
import time
from pathlib import Path

from scan_corpus.corpus import read_list

HERE = Path(__file__).resolve().parent
WORKER = HERE / "peers" / "worker_scanner.py"
OURS, LIMIT, START = "keras_secure", 30, 300
PROMISED_RECALL, PROMISED_SECONDS = 0.99, 0.5


class Scanner:
    """A worker that judges file after file; started again when it dies or takes too long."""

    def __init__(self, name, python):
        self.name, self.python, self._process = name, python, None

    def _start(self):
        self._process = subprocess.Popen(
            [self.python, str(WORKER), self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        if not self._read(START):
            sys.exit(f"{self.name} did not start; run {WORKER} {self.name} to see why.")

    def _read(self, limit):
        selector = selectors.DefaultSelector()
        selector.register(self._process.stdout, selectors.EVENT_READ)
        line = self._process.stdout.readline() if selector.select(limit) else b""
        if not line:
            self._process.kill()
            self._process.wait()
            self._process = None
        return line

    def judge(self, path):
        found = self._judge(path)
        # Once more, as the machine may have paused; what is slow is slow again.
        return found if found["seconds"] < LIMIT else self._judge(path)

    def _judge(self, path):
        if self._process is None:
            self._start()
        start = time.perf_counter()
        self._process.stdin.write(f"{path}\n".encode())
        self._process.stdin.flush()
        line = self._read(LIMIT)
        if line:
            return json.loads(line)
        why = [f"died or took over {LIMIT} s"]
        return {
            "verdict": "failed",
            "why": why,
            "seconds": time.perf_counter() - start,
            "loaded": [],
        }

    def judge_alone(self, path):
        """Seconds of a process for this file, by the clock and by all its processors."""
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [self.python, str(WORKER), self.name, str(path)],
                capture_output=True,
                timeout=LIMIT,
                check=False,
            )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return time.perf_counter() - start, used

    def close(self):
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait()


def measured(scanners, corpus, samples, stride):
    """Every scanner's answers, in the samples' order, and the seconds of processes."""
    answers = {scanner.name: [] for scanner in scanners}
    alone = {scanner.name: [] for scanner in scanners}
    for scanner in scanners:  # imports done, so that no file pays for them
        scanner.judge(corpus / samples[-1].path)
    for at, sample in enumerate(samples):
        for scanner in scanners:
            answers[scanner.name].append(scanner.judge(corpus / sample.path))
            if at % stride == 0:
                alone[scanner.name].append(scanner.judge_alone(corpus / sample.path))
        if sys.stderr.isatty():
            print(f"\r{at + 1} of {len(samples)}", end="", file=sys.stderr, flush=True)
    return answers, alone


def share(answers, chosen, verdict="flagged"):
    hits = sum(answers[at]["verdict"] == verdict for at in chosen)
    return hits, len(chosen), hits / len(chosen) if chosen else float("nan")


def print_recall(names, answers, samples):
    kinds = [at for at, one in enumerate(samples) if one.malicious and not one.changes]
    mutations = [at for at, one in enumerate(samples) if one.malicious and one.changes]
    clean = [at for at, one in enumerate(samples) if not one.malicious]
    rows = {"kinds": kinds, "mutations": mutations}
    for harm in ("code", "files", "resources", "archive", "weights"):
        rows[f"harm: {harm}"] = [at for at in kinds + mutations if samples[at].harm == harm]
    for family in ("config", "archive", "hdf5", "saved_model", "npz", "folder"):
        rows[f"in: {family}"] = [at for at in kinds + mutations if samples[at].family == family]
    rows["with a CVE's pattern"] = [at for at in kinds + mutations if samples[at].cve]
    print(f"\n{'flagged of':22}{'files':>7}" + "".join(f"{name:>22}" for name in names))
    for title, chosen in rows.items():
        cells = [share(answers[name], chosen) for name in names]
        print(
            f"{title:22}{len(chosen):7d}"
            + "".join(f"{hits:14d} {part:7.1%}" for hits, _, part in cells)
        )
    cells = [share(answers[name], clean) for name in names]
    print(
        f"{'clean (false alarms)':22}{len(clean):7d}"
        + "".join(f"{hits:14d} {part:7.1%}" for hits, _, part in cells)
    )
    harmful = kinds + mutations
    precisions = []
    for name, (alarms, *_) in zip(names, cells, strict=True):
        hits = share(answers[name], harmful)[0]
        precisions.append(hits / (hits + alarms) if hits + alarms else float("nan"))
    print(f"{'precision':29}" + "".join(f"{value:22.1%}" for value in precisions))
    for verdict, title in (("failed", "said it failed"), ("skipped", "did not look")):
        for where, chosen in (("harmful", harmful), ("clean", clean)):
            cells = [share(answers[name], chosen, verdict) for name in names]
            print(
                f"{title + ', ' + where:22}{len(chosen):7d}"
                + "".join(f"{hits:14d} {part:7.1%}" for hits, _, part in cells)
            )


def print_times(names, answers, alone):
    print(f"\n{'seconds a file':26}" + "".join(f"{name:>22}" for name in names))
    own = {}
    for title, seconds in (
        ("in one process", {name: [one["seconds"] for one in answers[name]] for name in names}),
        ("a process each", {name: [one for one, _ in alone[name]] for name in names}),
        ("its processor time", {name: [one for _, one in alone[name]] for name in names}),
    ):
        for what, measure in (("median", statistics.median), ("largest", max)):
            values = [measure(seconds[name]) for name in names]
            own[title, what] = values[0]
            cells = "".join(f"{value:12.4f} {value / values[0]:8.1f}x" for value in values)
            print(f"{title + ', ' + what:26}{cells}")
    loaded = [sorted({name for one in answers[who] for name in one["loaded"]}) for who in names]
    print(f"{'loads':26}" + "".join(f"{', '.join(found) or 'neither':>22}" for found in loaded))
    return own, loaded[0]


def print_misses(names, answers, samples, full):
    for name in names:
        missed = collections.defaultdict(list)
        for at, sample in enumerate(samples):
            flagged = answers[name][at]["verdict"] == "flagged"
            if sample.malicious and not flagged:
                missed[sample.kind].append(at)
            elif flagged and not sample.malicious:
                print(f"{name} flags the clean {sample.path}: {answers[name][at]['why'][:3]}")
        total = collections.Counter(one.kind for one in samples if one.malicious)
        print(f"\n{name} misses {len(missed)} of {len(total)} kinds in at least one file:")
        line = ", ".join(f"{kind} {len(found)}/{total[kind]}" for kind, found in missed.items())
        print(line or "none")
        if full or name == OURS:
            for found in missed.values():
                for at in found:
                    told = answers[name][at]
                    print(f"  {samples[at].path} ({', '.join(samples[at].changes)})")
                    print(f"    {told['verdict']} {told['why'][:2]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--peers", default=str(HERE / "peers"), help="folder, or none")
    parser.add_argument("--stride", type=int, default=25, help="files per process (default 25)")
    parser.add_argument("--every-miss", action="store_true", help="the peers' too")
    parser.add_argument("--scanners", nargs="*", default=["modelscan", "modelaudit"])
    parser.add_argument("--mutations", type=int, help="of each kind, at most this many")
    parser.add_argument("--kind", action="append", help="only these; may be given again")
    parser.add_argument("--answers", type=Path, help="a JSON file for every answer")
    arguments = parser.parse_args()
    corpus = arguments.corpus.resolve()
    samples = read_list(corpus)
    if arguments.kind:
        samples = [one for one in samples if one.kind in arguments.kind]
    if arguments.mutations is not None:
        # Samples lie in folders that are numbered by kind, the plainest first.
        samples = [
            one
            for one in samples
            if not one.malicious or int(Path(one.path).parts[2]) <= arguments.mutations
        ]
    scanners = [Scanner(OURS, sys.executable)]
    if arguments.peers != "none":
        for name in arguments.scanners:
            python = Path(arguments.peers) / f"env-{name}" / "bin" / "python"
            if not python.exists():
                parser.error(f"there is no {python}; run benchmarks/peers/build_scanners.sh")
            scanners.append(Scanner(name, str(python)))
    answers, alone = measured(scanners, corpus, samples, arguments.stride)
    for scanner in scanners:
        scanner.close()
    names = [scanner.name for scanner in scanners]
    print_recall(names, answers, samples)
    own, loaded = print_times(names, answers, alone)
    print_misses(names, answers, samples, arguments.every_miss)
    if arguments.answers:
        held = [
            {"path": sample.path} | {name: answers[name][at] for name in names}
            for at, sample in enumerate(samples)
        ]
        arguments.answers.write_text(json.dumps(held, indent=1))

    harmful = [at for at, one in enumerate(samples) if one.malicious]
    clean = [at for at, one in enumerate(samples) if not one.malicious]
    broken = []
    if harmful and share(answers[OURS], harmful)[2] < PROMISED_RECALL:
        broken.append(f"recall under {PROMISED_RECALL}")
    if share(answers[OURS], clean)[0]:
        broken.append("a false alarm")
    if max(own["in one process", "median"], own["a process each", "median"]) >= PROMISED_SECONDS:
        broken.append(f"a median of {PROMISED_SECONDS} s or more")
    if loaded:
        broken.append(f"{', '.join(loaded)} loaded")
    if broken:
        sys.exit("Promises not kept: " + "; ".join(broken))
    print("\nEvery promise is kept.")


if __name__ == "__main__":
    main()
