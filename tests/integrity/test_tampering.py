"""Every tampered bundle is refused, and called by what was done to it."""

import collections
import os

import pytest
from harness_tampering import Folder, SingleFile, judge, tamper

KINDS = {"folder": Folder, "file": SingleFile}


@pytest.fixture(scope="module", params=KINDS)
def bundle(request, tmp_path_factory):
    made = KINDS[request.param](tmp_path_factory.mktemp(request.param))
    assert judge(made, made.root)[1] == set()
    assert judge(made, made.fresh())[1] == set()
    return made


def run(bundle, numbers):
    """Tampers in the ways of all numbers; returns how often each cause was named."""
    seen, wrong = collections.Counter(), []
    for number in numbers:
        root, expected, way = tamper(bundle, number)
        report, causes = judge(bundle, root)
        seen.update(causes)
        if report.ok or causes != expected:
            wrong.append((number, way, expected, causes, report.describe()))
    assert not wrong, f"{len(wrong)} of {len(numbers)}: {wrong[:5]}"
    return seen


def test_each_way_is_refused_under_its_name(bundle):
    seen = run(bundle, range(3 * len(bundle.ways())))
    assert len(seen) >= 10


@pytest.mark.slow
def test_ten_thousand_tampered_bundles_are_refused_under_their_names(bundle, monkeypatch):
    # Nothing here has to outlive a power cut.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    seen = run(bundle, range(1000, 6000))
    print(dict(seen))
    assert sum(seen.values()) >= 5000
