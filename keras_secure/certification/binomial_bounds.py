"""How high a probability of success is for sure, and the radius that it buys."""

import numpy as np

from keras_secure.errors import InputError


def lower_bound(successes, trials, alpha):
    """One-sided Clopper-Pearson bound: the true probability is below it at most `alpha` often.

    The number of trials must have been fixed before any of them was seen; for one that was not, see
    `anytime_lower_bound`.

    Args:
        successes: Integer or array of integers.
        trials: Integer or array of integers, at least 1.
        alpha: Probability of being wrong.

    Returns:
        Float64 array, 0 where nothing succeeded.

    Example:

    >>> round(float(lower_bound(100_000, 100_000, 0.001)), 6)
    0.999931

    Reference:
        Clopper & Pearson 1934, Biometrika 26(4).
    """
    from scipy.stats import beta

    successes, trials = np.broadcast_arrays(np.asarray(successes), np.asarray(trials))
    if (successes < 0).any() or (successes > trials).any() or (trials < 1).any():
        raise InputError("successes must lie between 0 and trials, and trials be at least 1.")
    bound = beta.ppf(alpha, np.maximum(successes, 1), trials - successes + 1)
    return np.where(successes > 0, bound, 0.0)


def anytime_lower_bound(successes, trials, alpha):
    """A lower bound that holds at every number of trials at once, so that one may stop at will.

    The confidence sequence of Robbins' mixture: against any probability p, the likelihood of what
    was seen, averaged uniformly over all q, grows over that under p beyond 1 / alpha with
    probability at most alpha, however long one looks. The bound is the smallest p that was not yet
    rejected so. Stopping when the figures look best is allowed; with Clopper-Pearson bounds it is
    not. The price is a bound some one and a half times as far from the observed share.

    Args:
        successes: Integer or array of integers.
        trials: Integer or array of integers, at least 1.
        alpha: Probability that the bound is ever above the truth.

    Returns:
        Float64 array, 0 where nothing succeeded.

    Raises:
        InputError: If the counts do not fit together or `alpha` is not between 0 and 1.

    Example:

    >>> fixed, anytime = lower_bound(990, 1000, 0.001), anytime_lower_bound(990, 1000, 0.001)
    >>> round(float(fixed), 3), round(float(anytime), 3)
    (0.976, 0.966)

    Reference:
        Robbins 1970, Statistical methods related to the law of the iterated logarithm, Annals of
        Mathematical Statistics 41(5); Howard et al. 2021, arXiv 1810.08240, section 3.
    """
    from scipy.special import betaln

    successes, trials = np.broadcast_arrays(np.asarray(successes), np.asarray(trials))
    if (successes < 0).any() or (successes > trials).any() or (trials < 1).any():
        raise InputError("successes must lie between 0 and trials, and trials be at least 1.")
    if not 0 < alpha < 1:
        raise InputError(f"alpha={alpha!r} cannot be used: it must be between 0 and 1.")
    failures = trials - successes
    mixture = betaln(successes + 1.0, failures + 1.0)

    def rejected(p):
        with np.errstate(divide="ignore", invalid="ignore"):
            likelihood = successes * np.log(p) + np.where(
                failures > 0, failures * np.log1p(-p), 0.0
            )
        return mixture - likelihood >= -np.log(alpha)

    # Rejection is monotone from 0 to the observed share; what is bisected stays on its safe side.
    low, high = np.zeros(successes.shape), successes / trials
    for _ in range(60):
        middle = (low + high) / 2
        out = rejected(middle)
        low, high = np.where(out, middle, low), np.where(out, high, middle)
    return np.where(successes > 0, low, 0.0)


def certified_radius(probability, stddev):
    """Radius in l2 within which a class voted for with at least this probability stays the first.

    Args:
        probability: Lower bound of the probability of the class under the noise, array.
        stddev: Standard deviation of the noise.

    Returns:
        Float64 array; 0 where the bound is not above one half.

    Example:

    >>> round(float(certified_radius(0.999931, 0.5)), 2)
    1.91

    Reference:
        Cohen, Rosenfeld & Kolter 2019, arXiv 1902.02918, theorem 1.
    """
    from scipy.stats import norm

    return stddev * norm.ppf(np.maximum(probability, 0.5))


def needed_successes(probability, trials, alpha):
    """The fewest successes among `trials` that prove a probability of success above this one.

    Args:
        probability: Float in [0, 1): what is to be exceeded.
        trials: Integer, fixed in advance.
        alpha: Probability of a wrong proof, at most.

    Returns:
        An integer; trials + 1 where no number of successes would do.

    Example:

    >>> needed_successes(0.5, 100, 0.001)
    66
    >>> needed_successes(0.999, 100, 0.001)
    101
    """
    from scipy.stats import binom

    # Near the quantile, and then exactly: the smallest count whose tail is within alpha.
    count = int(binom.isf(alpha, trials, probability))
    while count > 0 and binom.sf(count - 1, trials, probability) <= alpha:
        count -= 1
    while count <= trials and binom.sf(count - 1, trials, probability) > alpha:
        count += 1
    return count
