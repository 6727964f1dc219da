"""How far each of a few values stands apart, robustly."""

import numpy as np


def anomaly_index(values):
    """How far each value lies above the median, in units of the usual distance from it.

    The unit is the median absolute deviation times 1.4826, which is the standard deviation where
    values are normal and, unlike it, is not moved by the few that stand apart. The largest of ten
    normal values crosses the usual cut at 2 in a third of all cases: `outlier_p_values` tells how
    surprising a value is.

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
