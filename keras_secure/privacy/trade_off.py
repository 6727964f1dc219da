"""How well anyone can tell whether an example was used: the guarantee as a hypothesis test."""

import numpy as np

from keras_secure.errors import PrivacyError
from keras_secure.privacy.accounting import privacy_curve

# Where the bound is looked for; any epsilon gives a valid one.
_EPSILONS = np.concatenate([np.linspace(0.0, 20.0, 401), np.linspace(20.5, 100.0, 160)])


def max_true_positive_rate(phases, false_positive_rate, *, max_examples_per_user=1):
    """Returns an upper bound on the power of every membership test at a false positive rate.

    Whoever sees all that the steps released, and knows every other example, and accuses an example
    of having been used, is right for at most this share of the examples that were used, if wrong
    for at most `false_positive_rate` of those that were not. It is the lower envelope of all
    (epsilon, delta) pairs that hold, so it says more than any one of them.

    Args:
        phases: A `Phase` or an iterable of them.
        false_positive_rate: Float in (0, 1).
        max_examples_per_user: See `epsilon`; more than 1 bounds tests for users.

    Returns:
        Float between `false_positive_rate` and 1.

    Raises:
        PrivacyError: if the rate is no probability.

    Example:

    >>> from keras_secure.privacy import Phase, UnstatedSampling
    >>> phase = Phase(UnstatedSampling(), 4.0, 1.0, 64, steps=4)
    >>> round(max_true_positive_rate(phase, 0.01), 3)
    0.034

    Reference: Wasserman and Zhou 2010, A Statistical Framework for Differential Privacy, theorem
    2.4; Dong et al. 2022, Gaussian Differential Privacy, proposition 2.12.
    """
    rate = false_positive_rate
    if not 0 < rate < 1:
        raise PrivacyError(f"false_positive_rate is {rate}; it must lie strictly in (0, 1).")
    epsilons, deltas = privacy_curve(
        phases, epsilons=_EPSILONS, max_examples_per_user=max_examples_per_user
    )
    few = deltas + np.exp(epsilons) * rate
    many = 1.0 - np.exp(-epsilons) * (1.0 - deltas - rate)
    return float(np.clip(min(few.min(), many.min()), rate, 1.0))
