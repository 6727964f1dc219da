"""Exact confidence intervals for counted successes."""


def binomial_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Clopper-Pearson interval of a proportion.

    It never covers less often than `confidence`, whatever the true proportion, which is what a
    report about rare events (a true-positive rate at a small false-positive rate) has to promise.

    Args:
        successes: Count of successes, from 0 to `trials`.
        trials: Count of independent trials, at least 1.
        confidence: Two-sided confidence level in (0, 1).

    Returns:
        The lower and upper bound of the proportion.

    Raises:
        ValueError: If the counts or the level are out of range.

    Example:

    >>> low, high = binomial_interval(0, 100)
    >>> low, round(high, 4)
    (0.0, 0.0362)

    Reference: Clopper and Pearson 1934, "The use of confidence or fiducial limits".
    """
    from scipy.stats import beta

    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(
            f"An interval needs 0 <= successes <= trials and at least one trial; "
            f"got {successes} of {trials}."
        )
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence lies strictly between 0 and 1; got {confidence}.")
    tail = (1.0 - confidence) / 2.0
    failures = trials - successes
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, failures + 1))
    high = 1.0 if failures == 0 else float(beta.ppf(1.0 - tail, successes + 1, failures))
    return low, high
