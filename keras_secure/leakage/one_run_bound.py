"""From guesses about coins to a lower bound on epsilon."""

import math

import numpy as np

from keras_secure.arguments import check_number, is_integer
from keras_secure.errors import InputError

_PRECISION = 1e-6


def one_run_p_value(
    num_canaries: int, num_guesses: int, num_correct: int, epsilon: float, delta: float
) -> float:
    """The chance of so many correct guesses if training were (epsilon, delta)-private.

    Under pure privacy each guess is right with probability q = e^epsilon / (1 + e^epsilon) at most,
    whatever the others are, so their number W is bounded by a Binomial(num_guesses, q). With v
    correct guesses and m canaries,

        p = P[W >= v] + 2 m delta max_{1 <= i <= v} P[v - i <= W < v] / i.

    Args:
        num_canaries: How many coins were tossed, m.
        num_guesses: How many coins were guessed, fixed before the outcome was seen.
        num_correct: How many guesses were right, v.
        epsilon: The hypothesis, not negative.
        delta: The hypothesis, in [0, 1].

    Returns:
        The p-value, at most 1.

    Raises:
        InputError: If the arguments do not fit together.

    Example:

    >>> round(one_run_p_value(100, 10, 10, epsilon=0.0, delta=0.0), 6)   # ten fair coins
    0.000977
    >>> one_run_p_value(100, 10, 10, epsilon=6.0, delta=0.0) > 0.9
    True

    Reference: Steinke, Nasr and Jagielski 2023, arXiv 2305.08846, theorem 5.2 and appendix D.
    """
    counts = (num_correct, num_guesses, num_canaries)
    if not all(is_integer(value) for value in counts) or not 0 <= counts[0] <= counts[1]:
        raise InputError(
            f"{num_correct} correct of {num_guesses} guesses cannot be: give integers, 0 <= "
            f"num_correct <= num_guesses."
        )
    if num_guesses > num_canaries:
        raise InputError(
            f"{num_guesses} guesses about {num_canaries} canaries cannot be. "
            "Count each canary once."
        )
    if not (epsilon >= 0 and 0 <= delta <= 1):
        raise InputError(
            f"epsilon={epsilon} and delta={delta} are no privacy guarantee; expected epsilon >= 0 "
            f"and delta in [0, 1]."
        )
    from scipy.special import expit
    from scipy.stats import binom

    q = expit(epsilon)
    tail = float(binom.sf(num_correct - 1, num_guesses, q))
    if delta == 0 or num_correct == 0:
        return min(1.0, tail)
    # P[v - i <= W < v] for i = 1, 2, ..., v.
    just_below = np.cumsum(binom.pmf(np.arange(num_correct - 1, -1, -1), num_guesses, q))
    steepest = float(np.max(just_below / np.arange(1, num_correct + 1)))
    return min(1.0, tail + 2.0 * num_canaries * delta * steepest)


def one_run_epsilon(
    num_canaries: int, num_guesses: int, num_correct: int, delta: float, confidence: float = 0.95
) -> float:
    """A lower bound on epsilon from guesses about coins.

    If training were (epsilon', delta)-private for an epsilon' below the bound, so many correct
    guesses would have had a chance of at most `1 - confidence`.

    Args:
        num_canaries: How many coins were tossed.
        num_guesses: How many coins were guessed, fixed before the outcome was seen.
        num_correct: How many guesses were right.
        delta: The delta of the guarantee that is tested.
        confidence: One-sided confidence of the bound, in (0, 1).

    Returns:
        The bound; 0 where nothing is shown.

    Raises:
        InputError: If the arguments do not fit together.

    Example:

    >>> one_run_epsilon(1000, 100, 55, delta=1e-5)      # hardly better than coins
    0.0
    >>> round(one_run_epsilon(1000, 100, 100, delta=0.0), 3)
    3.493
    """
    check_number("confidence", confidence, "(0, 1)")
    error = 1.0 - confidence

    def is_refuted(epsilon):
        return one_run_p_value(num_canaries, num_guesses, num_correct, epsilon, delta) <= error

    if not is_refuted(0.0):
        return 0.0
    # A model private at some epsilon is so at every larger one, so each epsilon that is refuted is
    # a valid bound, also where the p-value is not monotone.
    low, high = 0.0, 1.0
    while is_refuted(high):
        low, high = high, 2.0 * high
    while high - low > _PRECISION * max(1.0, high):
        middle = math.fsum((low, high)) / 2.0
        if is_refuted(middle):
            low = middle
        else:
            high = middle
    return low
