"""How often labels that were dealt at random would match predictions by chance, exactly."""

import math
import sys
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

CLAIM_THRESHOLD = 2.0**-40
"""A claim of ownership needs a p-value below this."""


def dealt_matches_probability(
    predictions: Sequence[int], labels: Sequence[int], matches: int
) -> Fraction:
    """Probability that `labels`, dealt out anew in random order, match in `matches` places or more.

    Whatever the predictions are, and however few classes they concentrate in, this is the exact
    null distribution of labels whose order is random and independent of the predictions.

    Places where label and prediction may meet form one rectangle for each class, of the class's
    predictions by its labels. The ways to choose j meetings that exclude each other are the
    coefficients of a rook polynomial, which is the product of the rectangles' own; inclusion and
    exclusion over j gives the tail. Integers throughout, so nothing is rounded.

    Args:
        predictions: One class for each input; any value that is no label matches nothing.
        labels: As many labels.
        matches: The count to reach.

    Returns:
        A `Fraction`.

    Example:

    >>> dealt_matches_probability([0, 0, 1, 1], [0, 1, 0, 1], 4)
    Fraction(1, 6)
    >>> dealt_matches_probability([0, 0, 0, 0], [0, 1, 0, 1], 2)  # always two, never more
    Fraction(1, 1)

    Reference:
        Riordan 1958, An introduction to combinatorial analysis, chapter 7 (rook polynomials).
    """
    total = len(labels)
    if matches <= 0:
        return Fraction(1)
    predicted, dealt = Counter(predictions), Counter(labels)
    rooks = [1]
    for value, copies in dealt.items():
        rows = predicted[value]
        block = [math.comb(rows, j) * math.perm(copies, j) for j in range(min(rows, copies) + 1)]
        product = [0] * (len(rooks) + len(block) - 1)
        for i, left in enumerate(rooks):
            for j, right in enumerate(block):
                product[i + j] += left * right
        rooks = product
    ways = sum(
        (-1) ** (j - matches) * math.comb(j - 1, matches - 1) * rooks[j] * math.factorial(total - j)
        for j in range(matches, len(rooks))
    )
    return Fraction(ways, math.factorial(total))


def binomial_matches_probability(matches: int, count: int, num_classes: int) -> Fraction:
    """Probability of `matches` or more in `count` independent draws, each right one time in K.

    Example:

    >>> binomial_matches_probability(2, 2, 10)
    Fraction(1, 100)
    """
    ways = sum(
        math.comb(count, hits) * (num_classes - 1) ** (count - hits)
        for hits in range(max(matches, 0), count + 1)
    )
    return Fraction(ways, num_classes**count)


def triggers_needed(
    num_classes: int, accuracy: float = 1.0, threshold: float = CLAIM_THRESHOLD
) -> int:
    """The least number of triggers that makes a claim possible at a given accuracy.

    Args:
        num_classes: How many classes the labels are drawn from, at least 2.
        accuracy: Share of the triggers that the suspect answers with their labels.
        threshold: What the p-value must be below.

    Returns:
        The least count from which on `ceil(accuracy * count)` matches have a p-value below the
        threshold, for predictions that are as balanced as the labels.

    Example:

    >>> triggers_needed(10), triggers_needed(10, accuracy=0.5), triggers_needed(2, accuracy=0.75)
    (17, 53, 195)
    """
    # The tail falls with the count but for the rounding of the matches, which comes round once in
    # 1 / accuracy triggers: the last failure decides and not the first success.
    limit = Fraction(threshold)
    count, needed, streak = 1, 1, 0
    while streak < 2 + 2 / accuracy:
        count += 1
        if claim_possible(num_classes, count, math.ceil(accuracy * count), limit):
            streak += 1
        else:
            needed, streak = count + 1, 0
    return needed


def matches_needed(num_classes: int, count: int, threshold: float = CLAIM_THRESHOLD) -> int | None:
    """The least number of matches with which `count` triggers prove a claim, or None.

    Example:

    >>> matches_needed(10, 100), matches_needed(2, 200), matches_needed(10, 10)
    (37, 149, None)
    """
    limit = Fraction(threshold)
    fitting = (m for m in range(count + 1) if claim_possible(num_classes, count, m, limit))
    return next(fitting, None)


def claim_possible(num_classes: int, count: int, matches: int, limit: Fraction) -> bool:
    """Whether `matches` of balanced predictions are less likely than `limit`."""
    balanced = [place % num_classes for place in range(count)]
    return dealt_matches_probability(balanced, balanced, matches) < limit


def as_float(probability: Fraction) -> float:
    """The probability as a float, never rounded down to zero."""
    return max(float(probability), sys.float_info.min) if probability > 0 else 0.0
