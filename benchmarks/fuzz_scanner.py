"""Scans damaged model files for a while: nothing may crash it, hang it, or fill the memory.

    python benchmarks/build_scan_corpus.py CORPUS --no-clean
    python benchmarks/fuzz_scanner.py CORPUS --minutes 10 --keep FAILURES

Files of the corpus are damaged blindly (flipped bits, numbers, splices, cuts) and knowingly (an
archive's entries packed again around damaged JSON, arrays or HDF5; fields of a protocol buffer),
and scanned in a process that is watched from outside. Wrong are: an exception that is not one of
keras_secure's, a death, more than 10 s, more than 1 GiB for the process and its largest child
together, and findings that cannot be written: problems, with which the exit code is 1. A file that
kills the reading process inside a scan, or raises what its parser did not expect, is flagged, and
told as a gap. With --direct no such process is started, so that far more cases can be tried. Files
that bring about a problem or a gap lie in --keep afterwards, one for each.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from scan_corpus.corpus import read_list
from scan_corpus.fuzzing import fuzz, seeds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for what went wrong")
    parser.add_argument("--direct", action="store_true", help="without the process around it")
    parser.add_argument("--only", help="seeds whose path contains this")
    arguments = parser.parse_args()
    paths = seeds(arguments.corpus, read_list(arguments.corpus))
    paths = [path for path in paths if not arguments.only or arguments.only in str(path)]
    if not paths:
        parser.error("no file of the corpus is left to start from")
    with tempfile.TemporaryDirectory() as scratch:
        done, problems = fuzz(
            paths,
            scratch,
            minutes=arguments.minutes,
            seed=arguments.seed,
            keep=arguments.keep,
            direct=arguments.direct,
        )
    print(
        f"{done['cases']} cases from {len(paths)} files in {arguments.minutes:g} minutes: "
        f"{done['flagged']} flagged, {done['refused']} refused, {done['clean']} clean"
    )
    print(f"longest {done['seconds']:.2f} s, most memory {done['mebibytes']:.0f} MiB")
    print(f"gaps, each flagged: {len(done['gaps'])}")
    for said, (path, number) in list(done["gaps"].items())[:50]:
        print(f"  {said}\n    {path} damaged with {number}")
    print(f"problems: {len(problems)}")
    for problem, path, number in problems[:50]:
        print(f"  {problem}\n    {path} damaged with {number}")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
