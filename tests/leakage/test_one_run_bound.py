"""The bound from guesses: against its definition, and valid and tight where the truth is known."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from keras_secure.errors import InputError
from keras_secure.leakage import OneRunAudit, one_run_epsilon, one_run_p_value

# Four standard errors of a count of false alarms.
SLACK = 4 * math.sqrt(0.05 * 0.95)


def by_definition(m, r, v, epsilon, delta):
    """Theorem 5.2, term by term."""
    q = math.exp(epsilon) / (1 + math.exp(epsilon))

    def f(u):
        return sum(binom.pmf(k, r, q) for k in range(max(u, 0), r + 1))

    steepest = max(((f(v - i) - f(v)) / i for i in range(1, m + 1)), default=0.0)
    return min(1.0, f(v) + 2 * m * delta * steepest)


@pytest.mark.parametrize("delta", [0.0, 1e-4, 0.01])
@pytest.mark.parametrize("epsilon", [0.0, 0.7, 3.0])
@pytest.mark.parametrize(("m", "r", "v"), [(40, 40, 33), (40, 10, 10), (40, 10, 1), (30, 7, 0)])
def test_p_value_is_the_theorems(m, r, v, epsilon, delta):
    expected = by_definition(m, r, v, epsilon, delta)
    assert one_run_p_value(m, r, v, epsilon, delta) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("delta", [0.0, 1e-5])
def test_bound_is_where_the_p_value_crosses(delta):
    bound = one_run_epsilon(1000, 200, 180, delta, 0.95)
    assert one_run_p_value(1000, 200, 180, bound, delta) <= 0.05
    assert one_run_p_value(1000, 200, 180, bound + 1e-4, delta) > 0.05


def test_more_right_guesses_and_less_delta_show_more():
    bounds = [one_run_epsilon(500, 100, correct, 1e-5) for correct in range(40, 101, 5)]
    assert bounds == sorted(bounds)
    assert bounds[0] == 0.0
    assert bounds[-1] > 3.0
    assert one_run_epsilon(500, 100, 90, 1e-3) < one_run_epsilon(500, 100, 90, 1e-5)
    assert one_run_epsilon(500, 100, 90, 1e-5, 0.99) < one_run_epsilon(500, 100, 90, 1e-5, 0.9)


@pytest.mark.parametrize("epsilon", [0.25, 1.0, 2.5])
@pytest.mark.parametrize("guesses", [50, 400])
def test_randomized_response_exceeds_its_epsilon_as_often_as_allowed(epsilon, guesses):
    """The tightest private mechanism: each coin is told right with the largest chance allowed."""
    chance = binom.pmf(np.arange(guesses + 1), guesses, math.exp(epsilon) / (1 + math.exp(epsilon)))
    exceeds = [
        one_run_epsilon(guesses, guesses, correct, delta=0.0) > epsilon
        for correct in range(guesses + 1)
    ]
    assert 0.015 < chance[exceeds].sum() <= 0.05
    # Noise a fifth too small is noticed far more often than that.
    wrong = math.exp(1.2 * epsilon) / (1 + math.exp(1.2 * epsilon))
    if guesses == 400 and epsilon >= 1:
        assert binom.pmf(np.arange(guesses + 1), guesses, wrong)[exceeds].sum() > 0.2


def audit_of(bits_of, trials, size, delta, **options):
    """Runs the whole audit on scores that a known mechanism gives away."""
    generator = np.random.default_rng(0)
    bounds = []
    for trial in range(trials):
        audit = OneRunAudit(np.zeros((size, 1)), np.zeros(size, int), seed=trial)
        scores = bits_of(audit.included, generator)
        bounds.append(audit.lower_bound(scores, delta, **options).epsilon_lower)
    return np.array(bounds)


def test_the_whole_audit_is_valid_and_shows_most_of_what_there_is():
    epsilon, trials = 1.0, 300
    q = math.exp(epsilon) / (1 + math.exp(epsilon))

    def answers(included, generator):
        told = included ^ (generator.random(len(included)) > q)
        return told + generator.uniform(0, 0.5, len(told))

    bounds = audit_of(answers, trials, 1000, delta=0.0)
    assert np.sum(bounds > epsilon) <= 0.05 * trials + SLACK * math.sqrt(trials)
    assert np.median(bounds) > 0.6 * epsilon
    # Choosing the best of four numbers of guesses without paying for it would show here.
    assert np.mean(bounds > 0.5 * epsilon) > 0.9


def test_guessing_blindly_shows_nothing():
    bounds = audit_of(lambda included, generator: generator.random(len(included)), 200, 200, 1e-5)
    assert np.mean(bounds > 0) <= 0.05 + SLACK / math.sqrt(200)


def test_delta_pays_for_examples_that_are_named_outright():
    """Each coin is published with chance delta and hidden otherwise: (0, delta)-private."""
    delta = 0.05

    def named(included, generator):
        shown = generator.random(len(included)) < delta
        return np.where(shown, np.where(included, 1.0, -1.0), 0.0)

    options = {"num_guesses": 6}
    with_delta = audit_of(named, 200, 200, delta, **options)
    assert np.mean(with_delta > 0) <= 0.05
    without = audit_of(named, 200, 200, 0.0, **options)
    assert np.mean(without > 0) > 0.5, "a pure guarantee is refuted"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_correct": 6}, "6 correct of 5"),
        ({"num_correct": -1}, "integers"),
        ({"num_correct": 1.5}, "integers"),
        ({"num_guesses": 11}, "11 guesses about 10"),
        ({"epsilon": -0.1}, "no privacy guarantee"),
        ({"epsilon": math.nan}, "no privacy guarantee"),
        ({"delta": 1.1}, "no privacy guarantee"),
    ],
)
def test_impossible_numbers_are_refused(changes, words):
    good = {"num_canaries": 10, "num_guesses": 5, "num_correct": 3, "epsilon": 1.0, "delta": 0.1}
    assert 0 < one_run_p_value(**good) <= 1
    with pytest.raises(InputError, match=words):
        one_run_p_value(**{**good, **changes})
    with pytest.raises(InputError, match="confidence"):
        one_run_epsilon(10, 5, 3, 0.1, confidence=1.0)
