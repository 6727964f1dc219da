"""The self-check: sound on the engine as it is, and able to see it broken."""

import subprocess
import sys

import pytest

from keras_secure.audit.self_check import checks, run
from keras_secure.audit.self_check.checks.check import CheckFailed
from keras_secure.audit.self_check.defects import DEFECTS


def test_every_defect_is_aimed_at_a_check():
    assert len(DEFECTS) >= 20
    assert {defect.aim for defect in DEFECTS} <= set(checks.CHECKS)
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS)


@pytest.mark.parametrize("name", ["half the noise", "one key for every run", "no clip"])
def test_a_seeded_defect_is_caught_and_taken_back(name):
    (defect,) = [defect for defect in DEFECTS if defect.name == name]
    with defect.seed(), pytest.raises(CheckFailed):
        checks.CHECKS[defect.aim]()
    checks.CHECKS[defect.aim]()


def test_a_missed_defect_and_a_broken_promise_are_reported(monkeypatch):
    def broken():
        raise CheckFailed("it is broken")

    harmless = next(defect for defect in DEFECTS if defect.name == "half the noise")
    monkeypatch.setattr(run, "CHECKS", {"sound": lambda: None, "broken": broken})
    monkeypatch.setattr(run, "DEFECTS", [harmless])
    lines = []
    report = run.run_self_check(progress=lines.append)
    assert report.failures == {"broken": "it is broken"}
    assert report.missed == ["half the noise"]
    assert not report.ok
    assert lines == ["holds   sound", "FAILS   broken: it is broken", "MISSED  half the noise"]


@pytest.mark.slow
def test_the_whole_self_check():
    done = subprocess.run(
        [sys.executable, "-m", "keras_secure.cli.main", "privacy", "check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout
    assert f"{len(DEFECTS)} of {len(DEFECTS)} seeded defects caught" in done.stdout
