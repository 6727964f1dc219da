"""What parity and repair of a large file cost, beside hashing the same bytes with hashlib.

Run as `python benchmarks/repair.py`. Every measurement is a fresh process over the same file of
random bytes; printed are seconds, the ratio to hashlib's one pass in the same run, and the peak of
the process's memory. Before each repair as many shards are damaged as the row says, and after it
the file must have its old bytes. Exits with 1 if a repair takes 10 seconds or a process 150 MB.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MIB = 2**20
MOST_SECONDS, MOST_MEGABYTES = 10.0, 150.0
KEY = "signing_key.pem"
PUBLIC_KEY = "public_key.pem"


def peak_megabytes():
    """The peak of this process's memory; getrusage would tell that of the parent."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    )
    return int(line.split()[1]) * 1024 / 1e6


def work(folder, task):
    """Does one task, and prints what it took."""
    path = folder / "weights.bin"
    if task == "hashlib":
        start = time.perf_counter()
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while piece := file.read(MIB):
                digest.update(piece)
    else:
        # Loading code is no part of the work; the limits are about bytes.
        from keras_secure.integrity import load_private_key, load_public_key, repair, sign, verify

        private_key = load_private_key(folder / KEY)
        public_key = load_public_key(folder / PUBLIC_KEY)
        start = time.perf_counter()
        if task == "sign":
            sign(path, private_key)
        elif task.startswith("sign+"):
            sign(path, private_key, parity=float(task.partition("+")[2]))
        elif task == "verify":
            verify(path, public_key).raise_if_failed()
        else:
            repair(path, public_key).raise_if_failed()
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "megabytes": peak_megabytes()}))


def measure(folder, task):
    """Runs one task in a fresh process."""
    finished = subprocess.run(
        [sys.executable, __file__, "--folder", folder, "--task", task],
        capture_output=True,
        text=True,
    )
    if finished.returncode:
        sys.exit(finished.stderr)
    return json.loads(finished.stdout.splitlines()[-1])


def damage(path, shards):
    """Overwrites a few bytes in each of some shards."""
    with path.open("r+b") as file:
        for shard in shards:
            file.seek(shard * MIB + 1000)
            file.write(b"damaged")


def write_file(path, megabytes):
    generator = np.random.default_rng(0)
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(generator.bytes(10**6))


def digest_of(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=500, help="size of the file (default 500)")
    parser.add_argument("--parity", type=float, default=0.1, help="share of parity (default 0.1)")
    parser.add_argument("--repeats", type=int, default=3, help="of which the fastest counts")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        work(options.folder, options.task)
        return 0
    from keras_secure.integrity import generate_key_pair, save_private_key, save_public_key

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        private_key, public_key = generate_key_pair()
        save_private_key(private_key, folder / KEY)
        save_public_key(public_key, folder / PUBLIC_KEY)
        path = folder / "weights.bin"
        write_file(path, options.megabytes)
        before = digest_of(path)
        num_data = -(-options.megabytes * 10**6 // MIB)
        generator = np.random.default_rng(1)
        tasks = [("hashlib", "hashlib", 0), ("sign", "sign", 0), ("verify", "verify", 0)]
        tasks.append((f"sign with parity {options.parity}", f"sign+{options.parity}", 0))
        num_parity = max(1, int(np.ceil(options.parity * num_data - 1e-9)))
        damages = {1: "repair of 1 shard", num_parity: f"repair of {num_parity} shards, all of m"}
        tasks += [(label, "repair", count) for count, label in damages.items()]
        print(f"{options.megabytes} MB, {num_data} data and {num_parity} parity shards of 1 MiB")
        print(f"{'':36}{'seconds':>10}{'x hashlib':>11}{'peak MB':>9}")
        seconds, failed = {}, False
        for label, task, count in tasks:
            found = []
            for _ in range(options.repeats):
                damage(path, generator.choice(num_data, count, replace=False).tolist())
                found.append(measure(folder, task))
                assert digest_of(path) == before, "the file is not what it was"
            seconds[task] = min(one["seconds"] for one in found)
            peak = max(one["megabytes"] for one in found)
            ratio = seconds[task] / seconds["hashlib"]
            print(f"{label:36}{seconds[task]:10.2f}{ratio:11.2f}{peak:9.0f}", flush=True)
            failed = failed or peak > MOST_MEGABYTES
            failed = failed or (task == "repair" and seconds[task] > MOST_SECONDS)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
