"""Every tampered bundle is refused, and called by what was done to it."""

import collections
import os

import pytest
from harness_tampering import Folder, SingleFile, fingerprint, judge, tamper

KINDS = {"folder": Folder, "file": SingleFile}
# There is less to do to a file, so ten thousand together.
NUMBERS = {Folder: 6000, SingleFile: 4000}
EVERYWHERE = {
    "changed", "truncated", "extended", "missing", "swapped", "mode", "symlink", "special",
    "unsigned", "signature_file", "statement", "signature", "untrusted_key", "revoked_key",
    "rollback",
}  # fmt: skip
CAUSES = {
    SingleFile: EVERYWHERE,
    Folder: EVERYWHERE
    | {"added", "renamed", "folder_added", "folder_missing", "expired_key", "threshold"},
}


@pytest.fixture(scope="module", params=KINDS)
def bundle(request, tmp_path_factory):
    made = KINDS[request.param](tmp_path_factory.mktemp(request.param))
    assert judge(made, made.root)[1] == set()
    assert judge(made, made.fresh())[1] == set()
    return made


def run(bundle, numbers, enough):
    """Tampers in the ways of some numbers, until enough bundles came out that differ.

    Returns how often each way was taken and each cause was named.
    """
    fingerprints, ways, causes, wrong = set(), collections.Counter(), collections.Counter(), []
    for number in numbers:
        root, expected, way = tamper(bundle, number)
        before = len(fingerprints)
        fingerprints.add(fingerprint(bundle))
        if len(fingerprints) == before:
            continue
        report, found = judge(bundle, root)
        ways[way] += 1
        causes.update(found)
        if report.ok or found != expected:
            wrong.append((number, way, expected, found, report.describe()))
        if len(fingerprints) == enough:
            break
    assert not wrong, f"{len(wrong)} of {len(fingerprints)}: {wrong[:5]}"
    assert len(fingerprints) == enough
    return ways, causes


def test_each_way_is_refused_under_its_name(bundle):
    numbers = 3 * len(bundle.ways())
    ways, _ = run(bundle, range(numbers), numbers * 2 // 3)
    assert len(ways) >= 15


@pytest.mark.slow
def test_ten_thousand_different_bundles_are_refused_under_their_names(bundle, monkeypatch):
    # Nothing here has to outlive a power cut.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    ways, causes = run(bundle, range(1000, 10_000), NUMBERS[type(bundle)])
    print(f"{sum(ways.values())} bundles\nways: {dict(ways)}\ncauses: {dict(causes)}")
    assert ways.keys() == {way.__name__ for way in bundle.ways()}
    assert causes.keys() == CAUSES[type(bundle)]
