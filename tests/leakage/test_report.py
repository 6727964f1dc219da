"""Operating points held against a guarantee: rarely a false alarm, and a true one where due."""

import math

import numpy as np

from keras_secure.intervals import proportion_interval
from keras_secure.leakage.report import measure


def told(is_member, epsilon, size, generator):
    """Scores of a mechanism as leaky as epsilon allows: the answer is right with chance q."""
    q = math.exp(epsilon) / (1 + math.exp(epsilon))
    right = generator.random(size) < q
    return (right == is_member) + generator.uniform(0, 0.5, size)


def alarms(true_epsilon, stated_epsilon, trials=400, size=500):
    generator = np.random.default_rng(0)
    found = 0
    for _ in range(trials):
        members, others = (told(one, true_epsilon, size, generator) for one in (True, False))
        found += measure("mine", members, others).contradiction(stated_epsilon, 0.0) is not None
    return found / trials


def test_what_the_guarantee_allows_is_hardly_ever_called_a_contradiction():
    slack = 4 * math.sqrt(0.05 * 0.95 / 400)
    assert alarms(1.0, 1.0) <= 0.05 + slack


def test_a_leak_beyond_the_guarantee_is_found():
    assert alarms(2.5, 1.0, trials=50) > 0.95


def test_contradiction_names_the_point_and_delta_excuses_it():
    members, others = np.linspace(1, 2, 400), np.linspace(0, 1.05, 400)
    report = measure("mine", members, others)
    found = report.contradiction(1.0, 1e-5)
    point = next(p for p in report.tpr_at_fpr if p.max_fpr == found.max_fpr)
    joint = 1 - 0.05 / 3
    low, _ = proportion_interval(round(point.tpr * 400), 400, joint)
    _, high = proportion_interval(round(point.fpr * 400), 400, joint)
    assert found.tpr_low == low > found.allowed
    assert math.isclose(found.allowed, math.e * high + 1e-5)
    assert report.contradiction(1.0, 1.0) is None
    assert report.contradiction(800.0, 0.0) is None
    assert report.contradiction(math.inf, 0.0) is None


def test_too_few_non_members_make_a_wide_interval_not_a_small_rate():
    generator = np.random.default_rng(0)
    report = measure("mine", generator.normal(size=300), generator.normal(size=50))
    point = report.tpr_at_fpr[0]
    assert (point.max_fpr, point.fpr) == (0.001, 0.0)
    assert point.fpr_interval[1] > 0.05


def test_tpr_interval_covers_the_truth_at_the_threshold_it_was_measured_at():
    """The threshold is chosen from the non-members, so the true rates are known per draw."""
    from scipy.stats import norm

    generator = np.random.default_rng(0)
    trials, covered = 600, {"fpr": 0, "tpr": 0}
    for _ in range(trials):
        members, others = generator.normal(1.0, 1.0, 200), generator.normal(size=300)
        point = measure("mine", members, others).tpr_at_fpr[1]
        # 3 of 300 may be above: the threshold is the fourth largest.
        limit = np.sort(others)[-4]
        for name, shift in (("fpr", 0.0), ("tpr", 1.0)):
            low, high = getattr(point, f"{name}_interval")
            covered[name] += low <= norm.sf(limit - shift) <= high
    for count in covered.values():
        assert count / trials >= 0.95 - 4 * math.sqrt(0.05 * 0.95 / trials)
