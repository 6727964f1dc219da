"""Which of a few values stands apart, and how often one would by chance."""

import functools

import numpy as np

_DRAWS = 20_000


def anomaly_index(values):
    """How far each value lies above the median, in units of the usual distance from it.

    The unit is the median absolute deviation times 1.4826, which is the standard deviation where
    values are normal and, unlike it, is not moved by the few that stand apart.

    Args:
        values: Array of shape (count,).

    Returns:
        Array of shape (count,); 0 everywhere if the median absolute deviation is 0.

    Example:

    >>> anomaly_index([1.0, 2.0, 3.0, 4.0, 20.0]).round(2).tolist()
    [-1.35, -0.67, 0.0, 0.67, 11.47]

    Reference: Wang et al. 2019, "Neural Cleanse", IEEE S&P, section IV.B.
    """
    values = np.asarray(values, "float64")
    apart = values - np.median(values, axis=-1, keepdims=True)
    unit = 1.4826 * np.median(np.abs(apart), axis=-1, keepdims=True)
    return np.divide(apart, unit, out=np.zeros_like(apart), where=unit > 0)


def anomaly_p_values(indexes):
    """Probability that the largest index among as many normal values is at least this one.

    The index does not change when values are shifted or scaled, so its distribution under
    normality depends on their number alone; it is drawn once for each number. The usual cut at 2 is
    crossed by the largest of ten normal values in a third of all cases, a p-value of 0.05 in one
    of twenty.

    Args:
        indexes: Array of shape (count,), of `anomaly_index`.

    Returns:
        Array of shape (count,) in (0, 1]: corrected for having looked at `count` values.

    Example:

    >>> p_values = anomaly_p_values(anomaly_index([1.0, 1.1, 0.9, 1.2, 1.0, 0.8, 1.1, 9.0]))
    >>> bool(p_values.min() < 0.01), bool((p_values[:-1] > 0.5).all())
    (True, True)
    """
    indexes = np.asarray(indexes, "float64")
    null = _largest_of_normals(len(indexes))
    above = _DRAWS - np.searchsorted(null, indexes, side="left")
    return (1 + above) / (1 + _DRAWS)


@functools.cache
def _largest_of_normals(count):
    draws = np.random.default_rng(0).normal(size=(_DRAWS, count))
    return np.sort(anomaly_index(draws).max(axis=-1))
