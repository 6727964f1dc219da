import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_secure.watermark.matching_chance import (
    CLAIM_THRESHOLD,
    as_float,
    binomial_matches_probability,
    dealt_matches_probability,
    matches_needed,
    triggers_needed,
)


def by_dealing(predictions, labels):
    """Counts the matches of every order of the labels."""
    return [
        sum(p == y for p, y in zip(predictions, dealt, strict=True))
        for dealt in itertools.permutations(labels)
    ]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 3)), min_size=1, max_size=6))
def test_the_tail_is_that_of_all_orders(pairs):
    predictions, labels = zip(*pairs, strict=True)
    counts = by_dealing(predictions, labels)
    for matches in range(len(labels) + 2):
        share = Fraction(sum(count >= matches for count in counts), len(counts))
        assert dealt_matches_probability(predictions, labels, matches) == share


def test_large_sets_agree_with_drawing():
    rng = np.random.default_rng(0)
    labels = np.arange(100) % 10
    predictions = rng.choice([3, 3, 3, 3, 8, 8, 8, 1, 0, -1], 100)
    drawn = np.array([np.sum(rng.permutation(labels) == predictions) for _ in range(20_000)])
    for matches in (5, 9, 12, 14):
        exact = float(dealt_matches_probability(predictions.tolist(), labels.tolist(), matches))
        assert abs((drawn >= matches).mean() - exact) < 4 * math.sqrt(exact / 20_000)


def test_concentrated_answers_are_less_likely_than_the_binomial_has_it():
    """Nobody gets 19 of 100 by always saying the same: balanced labels allow ten."""
    labels = [place % 10 for place in range(100)]
    assert dealt_matches_probability([8] * 100, labels, 11) == 0
    assert binomial_matches_probability(19, 100, 10) > 0.003


@pytest.mark.parametrize(("num_classes", "count"), [(2, 200), (3, 100), (10, 100), (1000, 100)])
def test_what_is_needed_is_least(num_classes, count):
    needed = matches_needed(num_classes, count)
    balanced = [place % num_classes for place in range(count)]
    assert dealt_matches_probability(balanced, balanced, needed) < CLAIM_THRESHOLD
    assert dealt_matches_probability(balanced, balanced, needed - 1) >= CLAIM_THRESHOLD
    share = needed / count + 0.03
    least = triggers_needed(num_classes, share)
    assert least <= count
    assert matches_needed(num_classes, least) <= share * least + 1
    assert matches_needed(num_classes, least - 1) > share * (least - 1)
    assert matches_needed(num_classes, triggers_needed(num_classes) - 1) is None


def test_probabilities_are_never_rounded_to_zero():
    tiny = Fraction(1, 10**400)
    assert float(tiny) == 0.0
    assert 0 < as_float(tiny) < 1e-300
    assert as_float(Fraction(0)) == 0.0
    assert binomial_matches_probability(0, 5, 2) == 1
