"""The anomaly index and the probability that it is as large by chance."""

import numpy as np
import pytest

from keras_secure.detection.anomaly_index import anomaly_index, anomaly_p_values


def test_the_index_is_the_distance_from_the_median_in_robust_deviations():
    values = [3.0, 1.0, 7.0, 2.0, 5.0, 40.0]
    middle = sorted(values)[2] / 2 + sorted(values)[3] / 2
    apart = sorted(abs(value - middle) for value in values)
    unit = 1.4826 * (apart[2] + apart[3]) / 2
    expected = [(value - middle) / unit for value in values]
    np.testing.assert_allclose(anomaly_index(values), expected, rtol=1e-12)


def test_equal_values_are_no_anomaly():
    assert anomaly_index([2.0] * 5).tolist() == [0.0] * 5
    assert anomaly_p_values(np.zeros(5)).min() > 0.9


@pytest.mark.parametrize("count", [5, 10, 43])
def test_p_values_keep_their_rate_for_normal_values_of_any_scale(count):
    rng = np.random.default_rng(count)
    smallest = []
    for _ in range(2000):
        values = rng.normal(5.0, 30.0, size=count)
        smallest.append(anomaly_p_values(anomaly_index(values)).min())
    share = np.mean(np.array(smallest) <= 0.05)
    # Four standard errors of 2,000 draws; a threshold for 2/3 or 3/2 of the scale lies outside.
    assert 0.05 - 0.02 < share < 0.05 + 0.02
    assert np.mean(np.array(smallest) <= 0.2) == pytest.approx(0.2, abs=0.04)


def test_the_usual_cut_at_two_does_not_keep_a_rate_of_one_in_twenty():
    rng = np.random.default_rng(0)
    crossed = [anomaly_index(rng.normal(size=10)).max() > 2 for _ in range(1000)]
    assert np.mean(crossed) > 0.25


def test_the_largest_of_two_values_is_never_surprising():
    assert anomaly_p_values(anomaly_index([0.0, 1e6])).min() > 0.5
