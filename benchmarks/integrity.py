"""What signing and verifying a folder costs, beside hashing the same bytes with hashlib.

Run as `python benchmarks/integrity.py`. A folder of random bytes is made in a temporary place: a
few large files and many small ones. Each measurement is a fresh process that reads the whole
folder; the tasks take turns, and the best of the rounds counts for each. Printed are seconds, the
ratio to hashlib in the same run, and the peak of the process's memory. Exits with 1 where a ratio
is above 1.3 or a peak above 150 MB. What parity and repair cost, `benchmarks/repair.py` prints.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MIB = 2**20
MOST_RATIO, MOST_MEGABYTES = 1.3, 150.0
SMALL_FILES = 200
TASKS = ("hashlib", "sign", "verify", "sign for model-signing")


def peak_megabytes():
    """The peak of this process's memory; getrusage would tell that of the parent."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    )
    return int(line.split()[1]) * 1024 / 1e6


def make_folder(root, megabytes):
    """Files of 40%, 30%, 20% and 10% of the bytes, and small ones beside them."""
    (root / "small").mkdir(parents=True)
    for share in (40, 30, 20, 10):
        with open(root / f"weights-{share}", "wb") as file:
            for _ in range(megabytes * share // 100):
                file.write(os.urandom(10**6))
    for number in range(SMALL_FILES):
        (root / "small" / f"{number:03}.json").write_bytes(os.urandom(2000))


def hash_with_hashlib(root):
    """One pass over every file, as simple and as fast as it gets."""
    for path in sorted(root.rglob("*")):
        if path.is_file():
            digest = hashlib.sha256()
            with path.open("rb", buffering=0) as file:
                while piece := file.read(MIB):
                    digest.update(piece)


def work(folder, task):
    """Does one task, and prints what it took."""
    root = folder / "model"
    if task == "hashlib":
        start = time.perf_counter()
        hash_with_hashlib(root)
    else:
        # Loading code is no part of the work; the limit is about bytes.
        from keras_secure.integrity import load_private_key, load_public_key, sign, verify

        kind = "ec-p256" if "model-signing" in task else "ed25519"
        private_key = load_private_key(folder / kind)
        public_key = load_public_key(folder / f"{kind}.pub")
        signature = folder / f"{kind}.sig"
        start = time.perf_counter()
        if task == "verify":
            verify(root, public_key, signature=signature).raise_if_failed()
        else:
            sign(root, private_key, signature=signature)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "megabytes": peak_megabytes()}))


def measure(folder, task):
    """Runs one task in a fresh process."""
    finished = subprocess.run(
        [sys.executable, __file__, "--folder", folder, "--task", task],
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        sys.exit(finished.stderr)
    return json.loads(finished.stdout.splitlines()[-1])


def main(options):
    from keras_secure.integrity import generate_key_pair, save_private_key, save_public_key

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in ("ed25519", "ec-p256"):
            private_key, public_key = generate_key_pair(kind)
            save_private_key(private_key, folder / kind)
            save_public_key(public_key, folder / f"{kind}.pub")
        make_folder(folder / "model", options.megabytes)
        best = {}
        for _ in range(options.rounds):
            for task in TASKS:
                found = measure(folder, task)
                if task not in best or found["seconds"] < best[task]["seconds"]:
                    best[task] = found
    passed = True
    print(f"{options.megabytes} MB in {4 + SMALL_FILES} files, best of {options.rounds}")
    for task, found in best.items():
        ratio = found["seconds"] / best["hashlib"]["seconds"]
        # The command line of model-signing asks for digests of whole files, a second pass.
        limited = task in ("sign", "verify")
        good = (ratio <= MOST_RATIO or not limited) and found["megabytes"] <= MOST_MEGABYTES
        passed &= good
        print(
            f"{task:24} {found['seconds']:6.2f} s  {ratio:5.2f} x hashlib  "
            f"{found['megabytes']:6.1f} MB{'' if good else '  OVER THE LIMIT'}"
        )
    return 0 if passed else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        work(arguments.folder, arguments.task)
    else:
        sys.exit(main(arguments))
