import json

import numpy as np
import pytest

from keras_secure.errors import InputError
from keras_secure.intervals import proportion_interval
from keras_secure.leakage import threshold_membership_attack


def drawn(shift=0.0, members=400, others=300, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(0, 1, members), generator.normal(shift, 1, others)


def test_low_losses_mean_member():
    assert threshold_membership_attack([0, 1], [2, 3]).auc == 1.0
    assert threshold_membership_attack([2, 3], [0, 1]).auc == 0.0


def test_guessing_is_not_mistaken_for_leakage_nor_leakage_for_guessing():
    low, high = threshold_membership_attack(*drawn(0.0)).auc_interval
    assert low < 0.5 < high
    assert threshold_membership_attack(*drawn(1.0)).auc_interval[0] > 0.5


def test_operating_points_keep_their_false_positive_rate():
    members, others = drawn(1.0)
    report = threshold_membership_attack(members, others)
    assert [point.max_fpr for point in report.tpr_at_fpr] == [0.001, 0.01, 0.1]
    for point in report.tpr_at_fpr:
        # The truth by trying every threshold.
        candidates = [
            np.mean(members < limit)
            for limit in np.concatenate([members, others])
            if np.mean(others < limit) <= point.max_fpr
        ]
        assert point.fpr <= point.max_fpr
        assert point.tpr == pytest.approx(max(candidates), abs=1 / len(members))
        hits = round(point.tpr * len(members))
        assert point.tpr_interval == proportion_interval(hits, len(members))


def test_ties_never_break_the_false_positive_rate():
    members, others = np.zeros(50), np.r_[np.zeros(20), np.ones(80)]
    for point in threshold_membership_attack(members, others).tpr_at_fpr:
        assert point.fpr <= point.max_fpr
        assert point.tpr == 0.0


def test_a_rate_is_not_lost_to_rounding():
    # floor(0.1 * 30) is 2 in floating point on some paths; three alarms are allowed.
    report = threshold_membership_attack(np.full(10, 2.5), np.arange(30.0))
    assert report.tpr_at_fpr[2].fpr == pytest.approx(0.1)
    assert report.tpr_at_fpr[2].tpr == 1.0


def test_advantages():
    members, others = np.array([0.0, 0.0, 3.0]), np.array([0.5, 2.0, 4.0])
    report = threshold_membership_attack(members, others)
    assert report.advantage == pytest.approx(2 / 3 - 1 / 3)  # at the mean member loss, 1
    assert report.best_advantage == pytest.approx(2 / 3)  # at any threshold in [0, 0.5)


def test_report_is_json_and_survives_infinite_losses():
    report = threshold_membership_attack([0.1, 0.2, 0.3], [0.2, np.inf, np.inf])
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert content["num_members"] == 3
    assert content["auc"] == pytest.approx((3 * 2 + 1 + 0.5) / 9)


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([[0.1], [0.2]], r"shape \(2, 1\).*one loss per example"),
        ([0.1], "at least 2"),
        ([0.1, np.nan], "1 NaN"),
    ],
)
def test_refusals_say_what_to_do(losses, words):
    with pytest.raises(InputError, match=words):
        threshold_membership_attack(losses, [0.1, 0.2])
    with pytest.raises(InputError, match=words):
        threshold_membership_attack([0.1, 0.2], losses)
