"""What `import keras_secure` costs on top of `import keras`.

Run as `python benchmarks/import_cost.py`. Every measurement is a fresh process; the first of them
only warms the file system's cache. Printed are the median seconds and their range, and the
top-level packages that come with it. `--threshold SECONDS` makes a larger median exit with 1.
"""

import argparse
import json
import statistics
import subprocess
import sys

CODE = """
import json, sys, time
start = time.perf_counter()
import keras
between = time.perf_counter()
before = set(sys.modules)
import keras_secure
end = time.perf_counter()
added = set(sys.modules) - before
print(json.dumps({
    "keras": between - start,
    "keras_secure": end - between,
    "ours": len([name for name in added if name.split(".")[0] == "keras_secure"]),
    "others": sorted({name.split(".")[0] for name in added} - {"keras_secure"}),
}))
"""


def measure():
    """Returns what one fresh process found."""
    finished = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    if finished.returncode:
        sys.exit(finished.stderr)
    return json.loads(finished.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=7, help="fresh processes (default 7)")
    parser.add_argument("--threshold", type=float, help="seconds that the median may not exceed")
    options = parser.parse_args()
    if options.processes < 1:
        parser.error("--processes must be at least 1")
    measure()
    found = [measure() for _ in range(options.processes)]
    for name in ("keras", "keras_secure"):
        seconds = [one[name] for one in found]
        print(
            f"import {name:<13} {statistics.median(seconds):6.3f} s  "
            f"({min(seconds):.3f} to {max(seconds):.3f}, {len(seconds)} processes)"
        )
    print(f"modules of keras_secure: {found[-1]['ours']}")
    print(f"other packages that it loads: {', '.join(found[-1]['others']) or 'none'}")
    median = statistics.median(one["keras_secure"] for one in found)
    if options.threshold is not None and median > options.threshold:
        sys.exit(f"The median of {median:.3f} s exceeds the threshold of {options.threshold:g} s.")


if __name__ == "__main__":
    main()
