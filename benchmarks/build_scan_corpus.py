"""Builds the corpus that scanners of model files are measured with.

    benchmarks/peers/build_keras_versions.sh               (once, for the clean exports)
    python benchmarks/build_scan_corpus.py CORPUS

CORPUS gets `malicious/KIND/NUMBER/`, where 00 is the plainest of its kind and the others are
mutations of it; `clean/`, the exports of Keras 3.13 to 3.15 and TensorFlow; and `corpus.json`,
which lists them all. What is built is the same for the same --seed (SavedModels but for the names
that TensorFlow draws). With --list, the kinds are printed and nothing is built.
"""

import argparse
import collections
from pathlib import Path

from scan_corpus.corpus import KINDS, build_clean, build_malicious, write_list

HERE = Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", nargs="?", type=Path)
    parser.add_argument("--mutations", type=int, default=3, help="of each kind (default 3)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peers", default=HERE / "peers", help="folder with env-keras-*")
    parser.add_argument("--no-clean", action="store_true", help="only the malicious ones")
    parser.add_argument("--list", action="store_true", help="print the kinds")
    arguments = parser.parse_args()
    if arguments.list:
        for kind in KINDS.values():
            print(f"{kind.name:32} {kind.harm:10} {kind.cve:15} {kind.effect}")
        return
    if arguments.corpus is None:
        parser.error("name a folder for the corpus")
    corpus = arguments.corpus.resolve()
    corpus.mkdir(parents=True, exist_ok=True)
    samples = build_malicious(corpus, arguments.mutations, arguments.seed)
    if not arguments.no_clean:
        samples += build_clean(corpus, arguments.peers)
    write_list(corpus, samples)
    counted = collections.Counter(
        "clean" if not one.malicious else "mutations" if one.changes else "kinds" for one in samples
    )
    print(", ".join(f"{count} {name}" for name, count in counted.items()))


if __name__ == "__main__":
    main()
