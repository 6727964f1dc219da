"""What the corpus's models do when Keras loads them: which release runs, reads or refuses what.

    for version in 3.8.0 3.10.0 3.11.0 3.13.1 3.15.1; do
      python -m pip install --no-deps --target KERAS/env-keras-$version keras==$version
    done
    python benchmarks/scan_corpus_effects.py CORPUS KERAS

Each `.keras` and `.h5` model at its plainest whose harm is code or files is loaded by
`keras.saving.load_model`, as a user would, under every Keras in KERAS. The table says `RAN` where
the payload left its (empty) marker file, else what Python's audit hooks saw, else `loaded` or `-`
for an error. The payloads are harmless, but they do run.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from scan_corpus.corpus import read_list

HERE = Path(__file__).resolve().parent
SCRIPT = HERE / "scan_corpus" / "load_one_by_one.py"


def effects(environment, paths):
    finished = subprocess.run(
        [sys.executable, str(SCRIPT)],
        input="".join(f"{path}\n" for path in paths),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(environment), "KERAS_BACKEND": "tensorflow"},
        check=False,
    )
    lines = [line for line in finished.stdout.splitlines() if line.startswith("{")]
    if len(lines) != len(paths):
        sys.exit(f"{environment} ended after {len(lines)} files: {finished.stderr[-2000:]}")
    return [json.loads(line) for line in lines]


def told(found):
    if found["ran"]:
        return "RAN"
    if found["seen"]:
        return ",".join(found["seen"])
    return "loaded" if found["ended"] == "loaded" else "-"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("keras", type=Path, help="folder with env-keras-VERSION")
    parser.add_argument("--why", action="store_true", help="how loading ended, too")
    arguments = parser.parse_args()
    corpus = arguments.corpus.resolve()
    samples = [
        one
        for one in read_list(corpus)
        if one.malicious
        and not one.changes
        and one.harm in ("code", "files")
        and one.path.endswith((".keras", ".h5"))
        and not one.path.endswith(".weights.h5")
    ]
    environments = sorted(
        arguments.keras.resolve().glob("env-keras-*"),
        key=lambda path: [int(part) for part in path.name.rsplit("-", 1)[1].split(".")],
    )
    found = [effects(one, [corpus / sample.path for sample in samples]) for one in environments]
    print(f"{'':32}" + "".join(f"{one[0]['keras']:>20}" for one in found))
    for at, sample in enumerate(samples):
        print(f"{sample.kind:32}" + "".join(f"{told(one[at]):>20}" for one in found))
        if arguments.why:
            for one in found:
                print(f"    {one[at]['keras']}: {one[at]['ended']}")


if __name__ == "__main__":
    main()
