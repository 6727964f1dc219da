"""The statement says what holds, on what assumptions, and nothing better than that."""

import re

import pytest

from keras_secure.privacy import (
    BallsInBinsSampling,
    DeterministicPasses,
    Phase,
    PoissonSampling,
    UnstatedSampling,
    epsilon,
    max_true_positive_rate,
    privacy_statement,
)

DELTA = 1e-5


def phase(sampling, noise=4.0, steps=10, **options):
    return Phase(sampling, noise, 0.5, 64.0, steps, **options)


POISSON = phase(PoissonSampling(0.02, 5000))
UNSTATED = phase(UnstatedSampling(), 30.0)


def words(*arguments, **options):
    return " ".join(privacy_statement(*arguments, **options).split())


@pytest.mark.parametrize("users", [1, 3])
def test_figures_are_those_of_the_accountant_never_rounded_down(users):
    text = words([POISSON, UNSTATED], DELTA, max_examples_per_user=users)
    stated = float(re.search(r"epsilon = ([\d.e-]+),", text)[1])
    spent = epsilon([POISSON, UNSTATED], DELTA, max_examples_per_user=users)
    assert spent <= stated < spent * 1.01
    power = max_true_positive_rate([POISSON, UNSTATED], 0.01, max_examples_per_user=users)
    stated = float(re.search(r"recognizes at most ([\d.]+)%", text)[1]) / 100
    assert power <= stated < power + 0.0011


def test_says_what_is_protected_and_on_which_assumptions():
    text = words(POISSON, DELTA)
    assert "for single examples" in text
    assert "one example added or removed" in text
    assert "10 steps: clip 0.5, noise multiplier 4; Poisson sampling" in text
    assert "probability 0.02 of 5000 examples" in text
    assert "for others their owner said so" in text
    assert "Not covered: losses and metrics shown while training" in text
    assert "hyperparameters" in text
    assert "privacy loss distributions" in text
    text = words([POISSON, UNSTATED], DELTA, max_examples_per_user=3)
    assert "20 steps in 2 phases" in text
    assert "users who contributed at most 3 examples each" in text
    assert "all examples of one user replaced by empty ones" in text
    assert "bound_contributions" in text
    assert "nothing assumed of how batches were formed" in text
    assert "Renyi divergences" in words(POISSON, DELTA, accountant="rdp")
    assert "balls in bins" in words(phase(BallsInBinsSampling(10)), DELTA)
    assert "fixed passes" in words(phase(DeterministicPasses(10)), DELTA)
    cut = words(phase(PoissonSampling(0.02, 5000, 150)), DELTA)
    assert "cut at random to 150" in cut


def test_what_is_not_private_is_called_so():
    for phases, why in (
        ([POISSON, phase(UnstatedSampling(), reproducible=True)], "a seed was given"),
        ([POISSON, phase(UnstatedSampling(), 0.0)], "steps without noise"),
    ):
        text = words(phases, DELTA)
        assert text.startswith("NOT PRIVATE: ")
        assert why in text
        assert "As a test" not in text
        assert "differentially private" not in text
    assert "nothing of the data was released" in words([], DELTA)


def test_warns_of_a_delta_that_means_little():
    assert "publishing an example outright" in words(POISSON, 1e-3)
    assert "publishing an example outright" not in words(POISSON, 1e-4)


def test_lines_are_short():
    lines = privacy_statement([POISSON, UNSTATED], DELTA).splitlines()
    assert max(map(len, lines)) <= 96
