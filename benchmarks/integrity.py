"""What signing, verifying and repairing cost, beside hashing the same bytes with hashlib.

Run as `python benchmarks/integrity.py`. A model of random bytes is made in a temporary place: a
folder of a few large files and many small ones, or with `--single-file` one large file. Each
measurement is a fresh process that reads all of it; the tasks take turns for some rounds. Printed
are medians: seconds, seconds of processors, both as ratios to one pass of `hashlib` on one thread
in the same round, and the peak of the process's memory. Before each repair as many shards are
damaged as the row says, all over the model, and after it every byte must be as before.

Exits with 1 where signing or verifying takes more than 1.3 times as long as hashlib, a repair takes
10 seconds, or any process 150 MB. The ratio of processors' seconds is what the work itself costs;
that of seconds gains from a second core and suffers from what else runs.
"""

import argparse
import hashlib
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MIB = 2**20
MOST_RATIO, MOST_SECONDS, MOST_MEGABYTES = 1.3, 10.0, 150.0
SMALL_FILES = 200
PARITY = 0.1
TASKS = (
    "hashlib",
    "sign",
    "verify",
    "sign, EC key, whole files too",
    "sign with parity",
    "repair, one shard",
    "repair, all that parity allows",
)


def peak_megabytes():
    """The peak of this process's memory; getrusage would tell that of the parent."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    )
    return int(line.split()[1]) * 1024 / 1e6


def make_model(path, megabytes, single_file):
    """One file; or files of 40%, 30%, 20% and 10% of the bytes, and small ones beside them."""
    if single_file:
        write_file(path, megabytes)
        return
    (path / "small").mkdir(parents=True)
    for share in (40, 30, 20, 10):
        write_file(path / f"weights-{share}", megabytes * share // 100)
    for number in range(SMALL_FILES):
        (path / "small" / f"{number:03}.json").write_bytes(os.urandom(2000))


def write_file(path, megabytes):
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(10**6))


def files_of(path):
    """The files of the model, without what signing writes beside them."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return [file for file in files if file.is_file() and file.suffix not in (".sig", ".parity")]


def hash_with_hashlib(path):
    """One pass over every file, as simple and as fast as it gets."""
    digests = []
    for file in files_of(path):
        digest = hashlib.sha256()
        with file.open("rb", buffering=0) as opened:
            while piece := opened.read(MIB):
                digest.update(piece)
        digests.append((file, digest.hexdigest()))
    return digests


def shards_of(path):
    """File and first byte of each shard."""
    return [
        (file, start) for file in files_of(path) for start in range(0, file.stat().st_size, MIB)
    ]


def damage(path, count):
    """Overwrites a few bytes in each of some shards."""
    for file, start in random.Random(count).sample(shards_of(path), count):
        with file.open("r+b") as opened:
            opened.seek(start)
            opened.write(b"damaged")


def work(folder, task, name):
    """Does one task, and prints what it took."""
    plain, protected = folder / "plain" / name, folder / "protected" / name
    if task == "hashlib":

        def run():
            hash_with_hashlib(plain)
    else:
        # Loading code is no part of the work; the limits are about bytes.
        from keras_secure.integrity import load_private_key, load_public_key, repair, sign, verify

        kind = "ec-p256" if "EC" in task else "ed25519"
        private_key = load_private_key(folder / kind)
        public_key = load_public_key(folder / f"{kind}.pub")
        signature = folder / f"{kind}.sig"

        def run():
            if task == "verify":
                verify(plain, public_key, signature=signature).raise_if_failed()
            elif task.startswith("repair"):
                repair(protected, public_key).raise_if_failed()
            elif "parity" in task:
                sign(protected, private_key, parity=PARITY)
            else:
                sign(plain, private_key, signature=signature)

    start, used = time.perf_counter(), time.process_time()
    run()
    seconds, processors = time.perf_counter() - start, time.process_time() - used
    found = {"seconds": seconds, "processors": processors, "megabytes": peak_megabytes()}
    print(json.dumps(found))


def measure(folder, task, name):
    """Runs one task in a fresh process."""
    finished = subprocess.run(
        [sys.executable, __file__, "--folder", folder, "--task", task, "--name", name],
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        sys.exit(finished.stderr)
    return json.loads(finished.stdout.splitlines()[-1])


def measure_in_turns(folder, name, rounds):
    """What each task took in each round, and how many shards the second repair rebuilt."""
    protected = folder / "protected" / name
    truth, num_parity = hash_with_hashlib(protected), math.ceil(PARITY * len(shards_of(protected)))
    found = {task: [] for task in TASKS}
    for number in range(rounds + 1):
        for task in TASKS:
            if task.startswith("repair"):
                damage(protected, 1 if task == "repair, one shard" else num_parity)
            one = measure(folder, task, name)
            if task.startswith("repair"):
                assert hash_with_hashlib(protected) == truth, "the model is not what it was"
            # The first round fills caches, and signs what the others verify.
            if number:
                found[task].append(one)
    return found, num_parity


def report(found):
    """Prints a row for each task; returns whether all are within their limits."""
    passed = True
    print(f"{'':32}{'seconds':>9}{'x hashlib':>11}{'CPU s':>8}{'x hashlib':>11}{'peak MB':>9}")
    for task, rounds in found.items():
        median, ratio = {}, {}
        for unit in ("seconds", "processors"):
            pairs = zip(rounds, found["hashlib"], strict=True)
            median[unit] = statistics.median(one[unit] for one in rounds)
            ratio[unit] = statistics.median(one[unit] / other[unit] for one, other in pairs)
        peak = max(one["megabytes"] for one in rounds)
        good = peak <= MOST_MEGABYTES
        if task in ("sign", "verify"):
            good &= ratio["seconds"] <= MOST_RATIO
        elif task.startswith("repair"):
            good &= median["seconds"] <= MOST_SECONDS
        passed &= good
        print(
            f"{task:32}{median['seconds']:9.2f}{ratio['seconds']:11.2f}{median['processors']:8.2f}"
            f"{ratio['processors']:11.2f}{peak:9.0f}{'' if good else '  OVER THE LIMIT'}"
        )
    return passed


def main(options):
    from keras_secure.integrity import generate_key_pair, save_private_key, save_public_key

    name = "model.bin" if options.single_file else "model"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for kind in ("ed25519", "ec-p256"):
            private_key, public_key = generate_key_pair(kind)
            save_private_key(private_key, folder / kind)
            save_public_key(public_key, folder / f"{kind}.pub")
        for copy in ("plain", "protected"):
            (folder / copy).mkdir()
            make_model(folder / copy / name, options.megabytes, options.single_file)
        found, num_parity = measure_in_turns(folder, name, options.rounds)
    count = 1 if options.single_file else 4 + SMALL_FILES
    print(
        f"{options.megabytes} MB in {count} files, {len(os.sched_getaffinity(0))} cores, medians "
        f"of {options.rounds} rounds; parity allows {num_parity} damaged shards of 1 MiB"
    )
    return 0 if report(found) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=500, help="of the model (default 500)")
    parser.add_argument("--rounds", type=int, default=5, help="after one to warm up (default 5)")
    parser.add_argument("--single-file", action="store_true", help="one file, not a folder of 204")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        work(arguments.folder, arguments.task, arguments.name)
    else:
        sys.exit(main(arguments))
