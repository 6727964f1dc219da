import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from keras_secure.leakage.roc import auc_with_interval

scores = st.lists(st.integers(-4, 4), min_size=2, max_size=12).map(lambda v: np.array(v, float))


def by_pairs(positive, negative):
    difference = positive[:, None] - negative[None, :]
    return np.mean((difference > 0) + 0.5 * (difference == 0))


def delong_by_pairs(positive, negative):
    """DeLong's variance straight from the definition, all pairs at once."""
    kernel = positive[:, None] - negative[None, :]
    kernel = (kernel > 0) + 0.5 * (kernel == 0)
    return np.var(kernel.mean(1), ddof=1) / len(positive) + np.var(kernel.mean(0), ddof=1) / len(
        negative
    )


@settings(max_examples=200, deadline=None)
@given(scores, scores)
def test_area_counts_every_pair_and_ties_half(positive, negative):
    area, (low, high) = auc_with_interval(positive, negative)
    assert area == pytest.approx(by_pairs(positive, negative), abs=1e-12)
    assert 0.0 <= low <= area <= high <= 1.0


def test_variance_is_delongs():
    generator = np.random.default_rng(0)
    positive, negative = generator.normal(0.7, 1, 50).round(1), generator.normal(0, 1, 70).round(1)
    area, (low, high) = auc_with_interval(positive, negative)
    width = math.log(high / (1 - high)) - math.log(low / (1 - low))
    error = width / (2 * norm.ppf(0.975)) * area * (1 - area)
    assert error**2 == pytest.approx(delong_by_pairs(positive, negative), rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.8, 1.8])
def test_interval_covers_as_often_as_it_says_and_a_wrong_width_would_not(shift):
    generator = np.random.default_rng(1)
    truth = norm.cdf(shift / math.sqrt(2))
    covered = {2 / 3: 0, 1.0: 0, 3 / 2: 0}
    trials = 1500
    for _ in range(trials):
        _, (low, high) = auc_with_interval(
            generator.normal(shift, 1, 60), generator.normal(0, 1, 90)
        )
        low, high, target = (math.log(p / (1 - p)) for p in (low, high, truth))
        centre, half = (low + high) / 2, (high - low) / 2
        for scale in covered:
            covered[scale] += abs(target - centre) <= scale * half
    rates = {scale: count / trials for scale, count in covered.items()}
    # Four standard errors of the count, and half a point for the finite sample.
    slack = 4 * math.sqrt(0.95 * 0.05 / trials) + 0.005
    assert rates[1.0] == pytest.approx(0.95, abs=slack)
    assert rates[2 / 3] < 0.95 - slack
    assert rates[3 / 2] > 0.95 + slack


@pytest.mark.parametrize(
    ("positive", "negative", "area"),
    [(np.arange(100.0, 130.0), np.arange(40.0), 1.0), (np.zeros(30), np.zeros(40), 0.5)],
)
def test_no_variance_is_not_certainty(positive, negative, area):
    measured, (low, high) = auc_with_interval(positive, negative)
    assert measured == area
    assert high - low > 0.2
