"""Every malicious kind that can be built without TensorFlow, and mutations of it, is flagged.

What needs TensorFlow, and the clean exports of several Keras releases, are for
`benchmarks/scanning.py`.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from scan_corpus.corpus import KINDS, build_kind

# They unfold hundreds of megabytes, or list tens of thousands of entries.
HEAVY = {"zip-bomb", "npz-bomb", "zip-many-entries", "zip-overlap"}
LIGHT = [kind for kind in KINDS.values() if kind.family != "saved_model" and kind.name not in HEAVY]
FAMILIES = sorted({kind.family for kind in LIGHT})


@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_and_a_mutation_of_it_are_flagged(family, failing, tmp_path):
    missed = []
    for kind in LIGHT:
        if kind.family != family:
            continue
        for sample in build_kind(kind, tmp_path, mutations=1):
            if not failing(tmp_path / sample.path):
                missed.append((sample.path, sample.changes))
    assert missed == []


def test_there_are_as_many_kinds_as_promised():
    assert len(KINDS) >= 100
    families = {kind.family for kind in KINDS.values()}
    assert families == {"config", "archive", "hdf5", "saved_model", "npz", "folder"}


def test_the_corpus_is_the_same_each_time(tmp_path):
    chosen = [KINDS[name] for name in ("lambda-bytecode", "h5-virtual", "npz-object-array")]
    for kind in chosen:
        first = list(build_kind(kind, tmp_path / "first", mutations=3))
        second = list(build_kind(kind, tmp_path / "second", mutations=3))
        assert first == second
        assert len(first) == 4
        for sample in first:
            one, two = (tmp_path / name / sample.path for name in ("first", "second"))
            if one.is_file():
                assert one.read_bytes() == two.read_bytes()
