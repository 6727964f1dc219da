"""What encryption at rest costs: time, and memory that does not grow with the file.

Prints a row for each way to encrypt and decrypt: seconds, MB/s, and the peak memory of the process
beyond what it had before. Ends with exit code 1 where memory grows with the file.

    python benchmarks/encryption.py --megabytes 500
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 32
"""MiB that a process may take beyond scrypt's own 128."""

KEY = bytes(range(32))
WAYS = {
    "AES-GCM, key": ({"key": KEY}, {"key": KEY}),
    "AES-GCM, X25519": ({"recipients": "{r}", "file_format": "aes-gcm"}, {"identities": "{i}"}),
    "AES-GCM, passphrase": (
        {"passphrase": "p", "file_format": "aes-gcm"},
        {"passphrase": "p"},
    ),
    "age, passphrase": ({"passphrase": "p", "file_format": "age"}, {"passphrase": "p"}),
    "age (pyrage), X25519": ({"recipients": "{r}", "file_format": "age"}, {"identities": "{i}"}),
    "AES-GCM, key, folder": ({"key": KEY}, {"key": KEY}),
}


def work(request):
    """Does one thing, in a process of its own; prints seconds and MiB."""
    import resource

    import cryptography.hazmat.primitives.ciphers.aead  # noqa: F401

    from keras_secure.integrity import decrypt, encrypt

    options = {k: bytes.fromhex(v) if k == "key" else v for k, v in request["options"].items()}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    call = encrypt if request["call"] == "encrypt" else decrypt
    call(request["path"], request["output"], **options)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"seconds": seconds, "mib": peak / 1024}))


def run(call, path, output, options):
    options = {k: v.hex() if k == "key" else v for k, v in options.items()}
    request = {"call": call, "path": str(path), "output": str(output), "options": options}
    command = [sys.executable, __file__, "--work", json.dumps(request)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(json.loads(options.work))
        return 0
    from keras_secure.integrity import generate_identity
    from keras_secure.integrity.encryption import age_file

    with tempfile.TemporaryDirectory() as home:
        names = {"r": generate_identity(f"{home}/identity"), "i": f"{home}/identity"}
        plain = Path(home, "folder", "model")
        plain.parent.mkdir()
        with open(plain, "wb") as file:
            for _ in range(options.megabytes):
                file.write(os.urandom(10**6))
        print(f"{options.megabytes} MB")
        print(f"{'':24}{'':10}{'s':>8}{'MB/s':>8}{'MiB':>8}")
        too_much = False
        for name, ways in WAYS.items():
            if "pyrage" in name and not age_file.is_available():
                print(f"{name:24}pyrage is not installed")
                continue
            path = plain.parent if "folder" in name else plain
            for call, given in zip(("encrypt", "decrypt"), ways, strict=True):
                filled = {
                    k: v.format(**names) if isinstance(v, str) else v for k, v in given.items()
                }
                output = Path(home, f"{call}ed")
                found = run(call, path, output, filled)
                speed = options.megabytes / found["seconds"]
                mib = found["mib"]
                print(f"{name:24}{call:10}{found['seconds']:8.2f}{speed:8.0f}{mib:8.0f}")
                too_much |= mib > LIMIT + 128 * ("passphrase" in name)
                path = output
            subprocess.run(["rm", "-rf", f"{home}/encrypted", f"{home}/decrypted"], check=True)
    if too_much:
        print(f"More than {LIMIT} MiB was taken (and 128 by scrypt).")
    return int(too_much)


if __name__ == "__main__":
    sys.exit(main())
