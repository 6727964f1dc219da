"""How surprising it is that a few values stand above the others."""

import functools

import numpy as np

_DRAWS = 20_000


def outlier_p_values(values):
    """Tests which of the largest values are too large for normal ones, however many they are.

    The generalized extreme studentized deviate test, on one side. For every cut that leaves fewer
    than half of the values above it, the smallest one above is set against mean and standard
    deviation of those below: nothing above a cut can hide what stands there. The smallest p-value
    of all cuts is then corrected, by drawing, for having tried them all. Under normality that
    makes the probability that any value gets a p-value of at most a, a; and once the values that
    do stand apart are so far up that they are found, that another gets one, at most about a.

    Standard deviations use all of the values below a cut, where the median absolute deviation uses
    the middle of them: among ten values, one that lies five standard deviations above the others
    is found in 82% of cases at a = 0.05, by the median absolute deviation in 69%.

    Args:
        values: Array of shape (count,), finite, not empty.

    Returns:
        Array of shape (count,) in (0, 1]. 1 for all that lie in the lower half, and for two
        values; three or four are surprising only in extreme cases.

    Example:

    >>> p_values = outlier_p_values([1.0, 1.1, 0.9, 1.2, 7.0, 1.0, 0.8, 9.0, 1.1])
    >>> np.flatnonzero(p_values < 0.01).tolist()
    [4, 7]

    Reference: Rosner 1983, "Percentage points for a generalized ESD many-outlier procedure",
        Technometrics 25(2). Its percentage points are approximate below 25 values; these are drawn.
    """
    values = np.asarray(values, "float64")
    order = np.argsort(-values)
    tails = _tails(values[order])
    null = _smallest_tails(len(values))
    corrected = (1 + np.searchsorted(null, tails, side="right")) / (1 + _DRAWS)
    p_values = np.ones(len(values))
    # What lies above a cut stands apart at least as far as the smallest value above it.
    p_values[order[: len(tails)]] = np.minimum.accumulate(corrected[::-1])[::-1]
    return p_values


def _tails(descending):
    """Probability, for each cut, that the largest of normal values lies as far above the others."""
    count = descending.shape[-1]
    cuts = (count - 1) // 2
    tails = np.ones((*descending.shape[:-1], cuts))
    mean, squares = descending[..., -1], np.zeros(descending.shape[:-1])
    for below in range(1, count):
        value = descending[..., count - 1 - below]
        cut = count - 1 - below
        if cut < cuts:
            tails[..., cut] = _grubbs_tail(value - mean, squares, below)
        # Welford's update, which stays exact where values lie close together.
        gap = value - mean
        mean = mean + gap / (below + 1)
        squares = squares + gap * (value - mean)
    return tails


def _grubbs_tail(gap, squares, below):
    from scipy.special import stdtr

    spread = np.sqrt(squares / (below - 1) * (1 + 1 / below))
    apart = np.divide(gap, spread, out=np.where(gap > 0, np.inf, 0.0), where=spread > 0)
    return np.minimum((below + 1) * stdtr(below - 1, -apart), 1.0)


@functools.cache
def _smallest_tails(count):
    draws = np.random.default_rng(0).normal(size=(_DRAWS, count))
    return np.sort(_tails(-np.sort(-draws)).min(axis=-1, initial=1.0))
