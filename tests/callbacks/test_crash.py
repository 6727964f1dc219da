"""kill -9 at random moments: every resume goes on with the exact ledger, or refuses and says why.

Exact means: the ledger counts every step whose execution began, and none that was not even
announced. Between the two lies one write to the disk, during which a kill may fall on either side.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import dp_accounting
import harness_crash
import pytest
from dp_accounting import pld

from keras_secure.privacy import physical_batch_size

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="lives are forked")


def lives(folder, kills, seed):
    """Runs the lives; returns for each the lines that it wrote."""
    done = subprocess.run(
        [sys.executable, harness_crash.__file__, str(folder), str(kills), str(seed)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(found):
    """Holds every life's count to what all lives before it wrote; returns some statistics."""
    announced = begun = executed = resumed = late = lost = refused = 0
    for lines in found:
        for line in lines:
            word, *values = line.split()
            if word == "start":
                counted = int(values[0])
                assert begun <= counted <= announced, (begun, counted, announced)
                # What lies between, if anything, is the one record during which the kill fell.
                late += announced - counted
                announced = begun = counted
                resumed += 1
                lost += int(values[1])
            elif word == "end":
                assert int(values[0]) == begun == announced >= executed
            elif word == "refused":
                assert len(values) > 5, line
                refused += 1
            else:
                announced += word == "announced"
                begun += word == "begun"
                executed += word == "executed"
    return {"resumed": resumed, "lost": lost, "late": late, "refused": refused, "steps": begun}


@pytest.mark.parametrize(
    "wrong",
    [
        [["start 0 0", "announced", "begun", "executed"], ["start 0 0"]],
        [["start 0 0", "announced", "begun"], ["start 0 0"]],
        [["start 0 0", "announced", "begun", "executed"], ["start 2 0"]],
        [["start 0 0", "announced", "begun", "executed", "end 0 0.0"]],
        [["refused Error:"]],
    ],
)
def test_the_check_itself_rejects_wrong_counts(wrong):
    with pytest.raises(AssertionError):
        check(wrong)
    check([["start 0 0", "announced", "begun", "executed", "announced"], ["start 2 0"]])
    check([["start 0 0", "announced", "begun", "executed", "announced"], ["start 1 0"]])


def check_end(found, statistics):
    """The last life ended in order, and its epsilon is that of all steps that were recorded."""
    word, steps, epsilon = found[-1][-1].split()
    assert (word, int(steps)) == ("end", statistics["steps"])
    examples, batch = len(harness_crash.X), harness_crash.BATCH_SIZE
    step = dp_accounting.TruncatedSubsampledGaussianDpEvent(
        examples, batch / examples, physical_batch_size(examples, batch), harness_crash.NOISE
    )
    accountant = pld.PLDAccountant(dp_accounting.NeighboringRelation.REPLACE_SPECIAL)
    accountant.compose(dp_accounting.SelfComposedDpEvent(step, int(steps)))
    assert float(epsilon) == pytest.approx(accountant.get_epsilon(1e-3), rel=1e-3)


def test_three_kills(tmp_path):
    found = lives(tmp_path, kills=3, seed=1)
    statistics = check(found)
    assert statistics["refused"] == 0
    check_end(found, statistics)


@pytest.mark.slow
def test_fifty_kills(tmp_path):
    found = lives(tmp_path, kills=50, seed=0)
    statistics = check(found)
    print(statistics)
    # Not one had to be refused: what Keras alone would have torn is whole.
    assert statistics["refused"] == 0
    assert statistics["resumed"] >= 35  # the others were killed before they had restored anything
    assert statistics["lost"] > 0
    assert not list(Path(tmp_path, "saved").glob("*.old*"))
    check_end(found, statistics)
