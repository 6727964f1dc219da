"""How far a share measured on a sample can be from the true one."""

from keras_secure.arguments import check_integer, check_number


def proportion_interval(successes, trials, confidence=0.95):
    """Clopper-Pearson interval of a proportion: it covers the truth at least `confidence` often.

    Args:
        successes: How many trials succeeded, an integer.
        trials: How many there were, an integer, at least 1.
        confidence: Coverage promised, between 0 and 1.

    Returns:
        (low, high), two floats in [0, 1].

    Raises:
        InputError: If the arguments are out of range.

    Example:

    >>> low, high = proportion_interval(0, 100)
    >>> low, round(high, 4)
    (0.0, 0.0362)

    Reference:
        Clopper & Pearson 1934, "The use of confidence or fiducial limits illustrated in the case
        of the binomial", Biometrika 26(4).
    """
    check_integer("trials", trials)
    check_integer("successes", successes, 0, trials)
    check_number("confidence", confidence, "(0, 1)")
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = beta.ppf(tail, successes, trials - successes + 1) if successes > 0 else 0.0
    high = beta.ppf(1 - tail, successes + 1, trials - successes) if successes < trials else 1.0
    return float(low), float(high)
