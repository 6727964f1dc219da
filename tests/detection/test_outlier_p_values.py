"""P-values of the values that stand above the others: their rate, their power, their order."""

import numpy as np
import pytest
from scipy import stats

from keras_secure.detection.anomaly_index import anomaly_index
from keras_secure.detection.outlier_p_values import outlier_p_values

SETS = 2000


def slow_corrected(values, nulls):
    """The largest cut's p-value of each value, by plain loops over the same kind of draws."""

    def tails(values):
        ordered = sorted(values, reverse=True)
        apart, sizes = [], []
        for cut in range((len(ordered) - 1) // 2):
            below = ordered[cut + 1 :]
            spread = np.std(below, ddof=1) * np.sqrt(1 + 1 / len(below))
            apart.append((ordered[cut] - np.mean(below)) / spread)
            sizes.append(len(below))
        sizes = np.array(sizes)
        return np.minimum(1.0, (sizes + 1) * stats.t.sf(apart, sizes - 1))

    smallest = [min(tails(null)) for null in nulls]
    corrected = [np.mean([one <= tail for one in smallest]) for tail in tails(values)]
    ordered = sorted(values, reverse=True)
    return [min(corrected[ordered.index(v) :], default=1.0) for v in values]


def test_p_values_are_those_of_a_plain_loop():
    rng = np.random.default_rng(1)
    nulls = rng.normal(size=(500, 9))
    for apart in ([], [2.5], [3.0, 6.0], [4.0, 4.5, 9.0]):
        values = np.concatenate([rng.normal(size=9 - len(apart)), apart])
        # Four standard errors of a share of 500 draws, at most 0.022 each.
        expected = slow_corrected(values.tolist(), nulls)
        np.testing.assert_allclose(outlier_p_values(values), expected, atol=0.09)


@pytest.mark.parametrize("count", [4, 5, 10, 43])
def test_the_rate_is_kept_for_normal_values_of_any_scale(count):
    rng = np.random.default_rng(count)
    sets = rng.normal(5.0, 30.0, size=(SETS, count))
    smallest = np.array([outlier_p_values(values).min() for values in sets])
    # Four standard errors; a threshold for 2/3 or 3/2 of the scale lies outside.
    assert np.mean(smallest <= 0.05) == pytest.approx(0.05, abs=0.02)
    assert np.mean(smallest <= 0.2) == pytest.approx(0.2, abs=0.036)


@pytest.mark.parametrize("apart", [1, 2, 3, 4])
def test_several_that_stand_apart_do_not_hide_each_other_nor_accuse_others(apart):
    rng = np.random.default_rng(apart)
    sets = rng.normal(size=(SETS, 10))
    sets[:, :apart] += 15
    p_values = np.array([outlier_p_values(values) for values in sets])
    assert np.mean((p_values[:, :apart] <= 0.05).all(axis=1)) > 0.97
    assert np.mean((p_values[:, apart:] <= 0.05).any(axis=1)) < 0.05 + 0.02


@pytest.mark.parametrize(("apart", "index_power", "power"), [(1, 0.69, 0.82), (2, 0.58, 0.71)])
def test_more_is_found_than_by_the_median_absolute_deviation(apart, index_power, power):
    rng = np.random.default_rng(apart)
    nulls, sets = rng.normal(size=(2, SETS, 10))
    # A cut that flags as few clean sets as the test does.
    cut = np.quantile([anomaly_index(null).max() for null in nulls], 0.95)
    sets[:, :apart] += 5
    by_index = np.mean([anomaly_index(values).max() > cut for values in sets])
    by_test = np.mean([outlier_p_values(values).min() <= 0.05 for values in sets])
    assert by_index == pytest.approx(index_power, abs=0.05)
    assert by_test == pytest.approx(power, abs=0.05)


def test_only_large_values_count_and_the_larger_is_never_less_surprising():
    values = np.r_[np.linspace(0, 1, 9), -50.0]
    assert outlier_p_values(values).min() > 0.3
    values = np.random.default_rng(3).standard_cauchy(size=15)
    assert (np.diff(outlier_p_values(values)[np.argsort(values)]) <= 0).all()


def test_few_or_equal_values_are_no_surprise():
    assert outlier_p_values([7.0]).tolist() == [1.0]
    assert outlier_p_values([0.0, 1e6]).tolist() == [1.0, 1.0]
    assert outlier_p_values([0.1] * 9).min() > 0.5
    assert outlier_p_values([0.0, 0.1, 1.0]).min() > 0.05
