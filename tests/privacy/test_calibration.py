"""What is calibrated never overshoots its target, and wastes little of it."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_secure.errors import PrivacyError
from keras_secure.privacy import (
    BallsInBinsSampling,
    Phase,
    PoissonSampling,
    UnstatedSampling,
    calibrate_batch_size,
    calibrate_noise_multiplier,
    calibrate_steps,
    epsilon,
    physical_batch_size,
)

DELTA = 1e-5


def phase(sampling, noise=1.1, steps=100):
    return Phase(sampling, noise, 1.0, 64.0, steps)


def run_epsilon(noise, examples, batch, steps, before=(), **options):
    """What `SecureModel.fit` will report for a run on arrays."""
    sampling = PoissonSampling(batch / examples, examples, physical_batch_size(examples, batch))
    return epsilon([*before, phase(sampling, noise, steps)], DELTA, **options)


@given(
    target=st.floats(0.3, 20.0),
    examples=st.integers(200, 2000),
    share=st.floats(0.01, 0.2),
    steps=st.integers(20, 300),
)
@settings(max_examples=4, deadline=None, derandomize=True)
@pytest.mark.slow
def test_calibration_of_random_runs(target, examples, share, steps):
    check_calibration(target, examples, max(1, round(examples * share)), steps)


@pytest.mark.parametrize("run", [(0.5, 400, 40, 3), (3.0, 60, 30, 20)])
def test_calibration_never_overshoots_and_wastes_little(run):
    check_calibration(*run)


def check_calibration(target, examples, batch, steps, **options):
    noise = calibrate_noise_multiplier(
        target_epsilon=target,
        target_delta=DELTA,
        num_examples=examples,
        batch_size=batch,
        steps=steps,
        **options,
    )
    assert run_epsilon(noise, examples, batch, steps, **options) <= target
    assert run_epsilon(noise * 0.998, examples, batch, steps, **options) > target * 0.9999


@pytest.mark.slow
def test_calibration_for_users():
    check_calibration(3.0, 1000, 32, 20, max_examples_per_user=2)


@pytest.mark.slow
def test_calibration_after_earlier_phases():
    before = [phase(UnstatedSampling(), 8.0, 3)]
    noise = calibrate_noise_multiplier(
        target_epsilon=2.0,
        target_delta=DELTA,
        num_examples=1000,
        batch_size=32,
        steps=20,
        earlier=before,
    )
    assert run_epsilon(noise, 1000, 32, 20, before) <= 2.0
    assert run_epsilon(noise * 0.995, 1000, 32, 20, before) > 2.0
    with pytest.raises(PrivacyError, match="have spent epsilon"):
        calibrate_noise_multiplier(
            target_epsilon=0.5,
            target_delta=DELTA,
            num_examples=1000,
            batch_size=32,
            steps=20,
            earlier=before,
        )


@pytest.mark.parametrize(
    "sampling",
    [UnstatedSampling(), pytest.param(BallsInBinsSampling(20), marks=pytest.mark.slow)],
)
def test_calibration_for_other_samplings(sampling):
    noise = calibrate_noise_multiplier(
        target_epsilon=2.0, target_delta=DELTA, sampling=sampling, steps=20
    )
    assert epsilon(phase(sampling, noise, 20), DELTA) <= 2.0
    assert epsilon(phase(sampling, noise * 0.998, 20), DELTA) > 2.0


def test_calibration_by_epochs_counts_steps_as_fit_does():
    by_epochs, by_steps = (
        calibrate_noise_multiplier(
            target_epsilon=2.0, target_delta=1e-4, num_examples=200, batch_size=90, **length
        )
        for length in ({"epochs": 2}, {"steps": 6})
    )
    assert by_epochs == by_steps


def test_calibration_for_whole_batches():
    noise = calibrate_noise_multiplier(
        target_epsilon=2.0, target_delta=1e-4, num_examples=50, batch_size=50, steps=10
    )
    exact = epsilon(phase(UnstatedSampling(), noise, 10), 1e-4)
    assert exact == pytest.approx(2.0, rel=0.5)


def test_calibration_meets_a_tiny_budget():
    run = {"target_delta": 1e-4, "num_examples": 500, "batch_size": 64, "steps": 50}
    sigma = calibrate_noise_multiplier(target_epsilon=1e-3, **run)
    sampling = PoissonSampling(64 / 500, 500, physical_batch_size(500, 64))
    assert epsilon(phase(sampling, sigma, 50), 1e-4) <= 1e-3


def test_calibrated_steps_are_the_last_that_fit():
    run = {"target_epsilon": 1.0, "target_delta": DELTA, "noise_multiplier": 1.5}
    steps = calibrate_steps(num_examples=1000, batch_size=32, **run)
    assert run_epsilon(1.5, 1000, 32, steps) <= 1.0 < run_epsilon(1.5, 1000, 32, steps + 1)
    before = [phase(UnstatedSampling(), 20.0, 3)]
    fewer = calibrate_steps(sampling=PoissonSampling(0.032, 1000), earlier=before, **run)
    assert fewer < steps
    following = [*before, phase(PoissonSampling(0.032, 1000), 1.5, fewer)]
    assert epsilon(following, DELTA) <= 1.0
    users = calibrate_steps(sampling=PoissonSampling(0.032, 1000), max_examples_per_user=2, **run)
    assert users < steps


def test_calibrated_batches_are_the_largest_that_fit():
    run = {"target_epsilon": 2.0, "target_delta": DELTA, "noise_multiplier": 4.0}
    size = calibrate_batch_size(num_examples=200, steps=30, **run)
    assert run_epsilon(4.0, 200, size, 30) <= 2.0 < run_epsilon(4.0, 200, size + 1, 30)
    size = calibrate_batch_size(num_examples=200, epochs=9, **run)
    assert run_epsilon(4.0, 200, size, 9 * math.ceil(200 / size)) <= 2.0
    larger = 2 * size
    assert run_epsilon(4.0, 200, larger, 9 * math.ceil(200 / larger)) > 2.0
    generous = {**run, "noise_multiplier": 60.0}
    assert calibrate_batch_size(num_examples=50, steps=2, **generous) == 50


@pytest.mark.parametrize("target", [0.0, -1.0, math.inf, math.nan])
def test_what_is_no_budget_is_refused(target):
    run = {"target_epsilon": target, "target_delta": DELTA, "num_examples": 1000}
    for calibrate, arguments in (
        (calibrate_noise_multiplier, {"batch_size": 32, "epochs": 1}),
        (calibrate_steps, {"batch_size": 32, "noise_multiplier": 1.0}),
        (calibrate_batch_size, {"epochs": 1, "noise_multiplier": 1.0}),
    ):
        with pytest.raises(PrivacyError, match="positive and finite"):
            calibrate(**run, **arguments)


def test_refusals():
    run = {"target_epsilon": 1.0, "target_delta": DELTA}
    for both in ({}, {"epochs": 1, "steps": 1}):
        with pytest.raises(PrivacyError, match="either `epochs` or `steps`"):
            calibrate_noise_multiplier(num_examples=100, batch_size=10, **run, **both)
    with pytest.raises(PrivacyError, match="by `sampling` how batches are drawn"):
        calibrate_steps(noise_multiplier=1.0, **run)
    with pytest.raises(PrivacyError, match="no larger than the data"):
        calibrate_noise_multiplier(num_examples=10, batch_size=20, steps=1, **run)
    with pytest.raises(PrivacyError, match="needs `num_examples`"):
        calibrate_noise_multiplier(sampling=UnstatedSampling(), epochs=1, **run)
    with pytest.raises(PrivacyError, match="holds not one step"):
        calibrate_steps(noise_multiplier=0.3, sampling=UnstatedSampling(), **run)
    with pytest.raises(PrivacyError, match="holds no batch of any size"):
        calibrate_batch_size(num_examples=8, steps=100, noise_multiplier=0.9, **run)
