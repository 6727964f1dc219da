import numpy as np
import pytest
from scipy.stats import binomtest

from keras_secure.audit import binomial_interval


@pytest.mark.parametrize(("successes", "trials"), [(0, 7), (3, 7), (7, 7), (1, 360), (200, 360)])
def test_agrees_with_scipy_exact_test(successes, trials):
    expected = binomtest(successes, trials).proportion_ci(0.9, method="exact")
    assert binomial_interval(successes, trials, 0.9) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("proportion", [0.02, 0.3, 0.9])
def test_covers_at_least_as_often_as_it_says(proportion):
    trials = 40
    intervals = np.array([binomial_interval(k, trials) for k in range(trials + 1)])
    drawn = np.random.default_rng(0).binomial(trials, proportion, 20000)
    low, high = intervals[drawn].T
    assert np.mean((low <= proportion) & (proportion <= high)) >= 0.95


def test_refuses_impossible_counts():
    with pytest.raises(ValueError, match="got 8 of 7"):
        binomial_interval(8, 7)
    with pytest.raises(ValueError, match="strictly between"):
        binomial_interval(1, 7, confidence=95)
