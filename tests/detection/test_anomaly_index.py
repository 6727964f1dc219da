"""The anomaly index of the Neural Cleanse paper, and how often its usual cut is crossed."""

import numpy as np

from keras_secure.detection.anomaly_index import anomaly_index


def test_the_index_is_the_distance_from_the_median_in_robust_deviations():
    values = [3.0, 1.0, 7.0, 2.0, 5.0, 40.0]
    middle = sorted(values)[2] / 2 + sorted(values)[3] / 2
    apart = sorted(abs(value - middle) for value in values)
    unit = 1.4826 * (apart[2] + apart[3]) / 2
    expected = [(value - middle) / unit for value in values]
    np.testing.assert_allclose(anomaly_index(values), expected, rtol=1e-12)


def test_equal_values_are_no_anomaly():
    assert anomaly_index([2.0] * 5).tolist() == [0.0] * 5


def test_the_usual_cut_at_two_does_not_keep_a_rate_of_one_in_twenty():
    rng = np.random.default_rng(0)
    crossed = [anomaly_index(rng.normal(size=10)).max() > 2 for _ in range(1000)]
    assert np.mean(crossed) > 0.25
