"""Clopper-Pearson intervals against their definition."""

import numpy as np
import pytest
from scipy.stats import binom

from keras_secure.attacks import proportion_interval
from keras_secure.errors import InputError


@pytest.mark.parametrize(("successes", "trials"), [(1, 10), (37, 50), (360, 361)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_ends_are_where_a_tail_test_would_reject(successes, trials, confidence):
    low, high = proportion_interval(successes, trials, confidence)
    tail = (1 - confidence) / 2
    assert binom.sf(successes - 1, trials, low) == pytest.approx(tail, rel=1e-6)
    assert binom.cdf(successes, trials, high) == pytest.approx(tail, rel=1e-6)


def test_no_success_and_no_failure_reach_the_ends():
    low, high = proportion_interval(0, 20)
    assert low == 0
    assert high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert proportion_interval(20, 20) == pytest.approx((1 - high, 1.0))


@pytest.mark.parametrize("truth", [0.02, 0.3, 0.9])
def test_coverage_is_at_least_what_is_promised(truth):
    trials = 40
    chance = binom.pmf(np.arange(trials + 1), trials, truth)
    covered = [
        low <= truth <= high
        for low, high in (proportion_interval(k, trials, 0.9) for k in range(trials + 1))
    ]
    assert 0.9 <= chance[covered].sum() < 0.99


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((1, 0), "trials"),
        ((3, 2), "successes"),
        ((-1, 2), "successes"),
        ((1.5, 2), "successes"),
        ((1, 2, 1.0), "confidence"),
        ((1, 2, 95), "confidence"),
    ],
)
def test_arguments_are_checked(args, words):
    with pytest.raises(InputError, match=words):
        proportion_interval(*args)
