import numpy as np
import pytest
from scipy import stats

from keras_secure.certification.binomial_bounds import (
    anytime_lower_bound,
    certified_radius,
    lower_bound,
    needed_successes,
)
from keras_secure.errors import InputError
from keras_secure.intervals import proportion_interval


def test_fixed_bound_is_one_side_of_the_clopper_pearson_interval():
    for successes, trials in ((0, 10), (3, 10), (10, 10), (99_900, 100_000)):
        low, _ = proportion_interval(successes, trials, confidence=1 - 2 * 0.001)
        np.testing.assert_allclose(lower_bound(successes, trials, 0.001), low, atol=1e-12)


@pytest.mark.parametrize("trials", [1, 7, 50, 1000])
@pytest.mark.parametrize("probability", [0.0, 0.3, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("alpha", [0.2, 0.001])
def test_needed_successes_are_the_fewest_whose_bound_is_above(trials, probability, alpha):
    needed = needed_successes(probability, trials, alpha)
    bounds = lower_bound(np.arange(trials + 1), trials, alpha)
    assert not (bounds[:needed] > probability).any()
    assert (bounds[needed:] >= probability).all()


def watch(bound, probability, alpha, streams=3000, length=3000):
    """The share of streams in which the bound is ever above the truth."""
    rng = np.random.default_rng(3)
    looks = np.unique(np.geomspace(1, length, 80).astype(int))
    steps = np.diff(looks, prepend=0)
    successes = np.cumsum(rng.binomial(steps, probability, (streams, len(looks))), axis=1)
    return (bound(successes, looks, alpha) > probability).any(axis=1).mean()


@pytest.mark.parametrize("probability", [0.3, 0.7, 0.97])
def test_anytime_bound_holds_at_all_looks_and_the_fixed_one_does_not(probability):
    alpha, spread = 0.05, 5 * (0.05 * 0.95 / 3000) ** 0.5
    assert watch(anytime_lower_bound, probability, alpha) <= alpha + spread
    assert watch(lower_bound, probability, alpha) > 2 * alpha + spread


def test_anytime_bound_is_not_much_looser():
    for successes, trials in ((700, 1000), (990, 1000), (9_999, 10_000)):
        fixed = successes / trials - lower_bound(successes, trials, 0.001)
        anytime = successes / trials - anytime_lower_bound(successes, trials, 0.001)
        assert fixed < anytime < 2.2 * fixed


def test_anytime_bound_solves_its_equation():
    from scipy.special import betaln

    bound = float(anytime_lower_bound(80, 100, 0.01))
    ratio = betaln(81, 21) - 80 * np.log(bound) - 20 * np.log1p(-bound)
    np.testing.assert_allclose(ratio, -np.log(0.01), rtol=1e-9)
    assert anytime_lower_bound([0, 5], [10, 5], 0.01).tolist()[0] == 0.0
    assert 0 < anytime_lower_bound([0, 5], [10, 5], 0.01)[1] < 1


def test_radius_is_that_of_the_theorem():
    probabilities = np.array([0.2, 0.5, 0.8, stats.norm.cdf(3)])
    expected = [0.0, 0.0, 0.5 * stats.norm.ppf(0.8), 1.5]
    np.testing.assert_allclose(certified_radius(probabilities, 0.5), expected, atol=1e-12)


def test_wrong_arguments_are_refused():
    for bound in (lower_bound, anytime_lower_bound):
        with pytest.raises(InputError, match="between 0 and trials"):
            bound(5, 4, 0.1)
    with pytest.raises(InputError, match="between 0 and 1"):
        anytime_lower_bound(1, 4, 1.0)
