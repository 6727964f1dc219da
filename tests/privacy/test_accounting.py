"""Epsilon is that of `dp-accounting`, and calibration and limits never overshoot."""

import math

import dp_accounting
import pytest
from dp_accounting import pld, rdp
from dp_accounting.pld import privacy_loss_distribution
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_secure.errors import PrivacyError
from keras_secure.privacy import (
    Phase,
    PoissonSampling,
    UnstatedSampling,
    calibrate_noise_multiplier,
    epsilon,
    max_steps,
    physical_batch_size,
)

DELTA = 1e-5


def phase(sampling, noise=1.1, steps=100, **options):
    return Phase(sampling, noise, 1.0, 64.0, steps, **options)


def event(sampling, noise, steps):
    inner = dp_accounting.GaussianDpEvent(noise)
    if isinstance(sampling, UnstatedSampling):
        return dp_accounting.SelfComposedDpEvent(inner, steps)
    if sampling.physical_batch_size is None:
        inner = dp_accounting.PoissonSampledDpEvent(sampling.sampling_probability, inner)
    else:
        inner = dp_accounting.TruncatedSubsampledGaussianDpEvent(
            sampling.dataset_size,
            sampling.sampling_probability,
            sampling.physical_batch_size,
            noise,
        )
    return dp_accounting.SelfComposedDpEvent(inner, steps)


def direct(events, delta, accountant="pld"):
    if accountant == "rdp":
        found = rdp.RdpAccountant()
    else:
        truncated = any(
            isinstance(e.event, dp_accounting.TruncatedSubsampledGaussianDpEvent) for e in events
        )
        relation = dp_accounting.NeighboringRelation
        found = pld.PLDAccountant(
            relation.REPLACE_SPECIAL if truncated else relation.ADD_OR_REMOVE_ONE
        )
    for one in events:
        found.compose(one)
    return found.get_epsilon(delta)


POISSON = PoissonSampling(0.02, 5000)
TRUNCATED = PoissonSampling(0.02, 5000, physical_batch_size(5000, 100))


@pytest.mark.parametrize("sampling", [POISSON, TRUNCATED, UnstatedSampling()])
def test_epsilon_is_that_of_the_accountant(sampling):
    expected = direct([event(sampling, 1.3, 150)], DELTA)
    assert epsilon(phase(sampling, 1.3, 150), DELTA) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("sampling", [POISSON, UnstatedSampling()])
def test_renyi_epsilon_is_that_of_the_accountant(sampling):
    expected = direct([event(sampling, 1.3, 150)], DELTA, "rdp")
    found = epsilon(phase(sampling, 1.3, 150), DELTA, accountant="rdp")
    assert found == pytest.approx(expected, rel=1e-12)
    assert found > epsilon(phase(sampling, 1.3, 150), DELTA)


def test_phases_compose():
    parts = [(POISSON, 1.3, 50), (UnstatedSampling(), 4.0, 3), (PoissonSampling(0.1, 100), 2.0, 20)]
    phases = [phase(*part) for part in parts]
    events = [event(*part) for part in parts]
    assert epsilon(phases, DELTA) == pytest.approx(direct(events, DELTA), rel=1e-6)
    assert epsilon(phases, DELTA, accountant="rdp") == pytest.approx(
        direct(events, DELTA, "rdp"), rel=1e-12
    )
    assert epsilon(iter(phases), DELTA) == epsilon(phases, DELTA)
    assert epsilon(phases[:1], DELTA) < epsilon(phases, DELTA)


def test_splitting_a_phase_changes_nothing():
    whole = epsilon(phase(POISSON, steps=60), DELTA)
    parts = [phase(POISSON, steps=steps) for steps in (10, 25, 25)]
    assert epsilon(parts, DELTA) == pytest.approx(whole, rel=1e-3)


def test_published_setting():
    """q=256/60000, sigma=1.1, 14,040 steps (Abadi et al.'s MNIST setting, much cited since)."""
    published = phase(PoissonSampling(256 / 60000, 60000), 1.1, 14040)
    assert epsilon(published, DELTA, accountant="rdp") == pytest.approx(2.594, abs=5e-4)
    tight = epsilon(published, DELTA)
    # The accountant's own answer, with its defaults (pessimistic, connect-the-dots).
    accountant = direct([event(published.sampling, 1.1, 14040)], DELTA)
    assert tight == pytest.approx(accountant, rel=1e-9)
    assert tight == pytest.approx(2.3796, abs=5e-4)


def test_other_published_figure_comes_from_a_coarser_grid():
    """2.3885 is the same upper bound on a grid of 1e-3; ours, on 1e-4, is valid and tighter."""
    coarse = privacy_loss_distribution.from_gaussian_mechanism(
        1.1, sampling_prob=256 / 60000, value_discretization_interval=1e-3
    ).self_compose(14040)
    published = phase(PoissonSampling(256 / 60000, 60000), 1.1, 14040)
    assert coarse.get_epsilon_for_delta(DELTA) == pytest.approx(2.3885, abs=5e-4)
    assert epsilon(published, DELTA) < 2.3885


def test_truncation_costs_little_and_never_less():
    plain, static = (epsilon(phase(s, 1.0, 200), DELTA) for s in (POISSON, TRUNCATED))
    assert plain <= static <= plain * 1.002


def test_unstated_sampling_costs_more():
    assert epsilon(phase(UnstatedSampling()), DELTA) > 10 * epsilon(phase(POISSON), DELTA)


def test_nothing_and_no_noise():
    assert epsilon([], DELTA) == 0.0
    assert epsilon(phase(POISSON, steps=0), DELTA) == 0.0
    assert epsilon([phase(POISSON), phase(POISSON, noise=0.0)], DELTA) == math.inf


def test_refusals():
    with pytest.raises(PrivacyError, match="strictly in"):
        epsilon(phase(POISSON), 0.0)
    with pytest.raises(PrivacyError, match="use 'pld' or 'rdp'"):
        epsilon(phase(POISSON), DELTA, accountant="moments")
    with pytest.raises(PrivacyError, match="accountant='pld'"):
        epsilon(phase(TRUNCATED), DELTA, accountant="rdp")
    with pytest.raises(PrivacyError, match="must be positive"):
        calibrate_noise_multiplier(
            target_epsilon=0, target_delta=DELTA, num_examples=100, batch_size=10, steps=1
        )
    for both in ({}, {"epochs": 1, "steps": 1}):
        with pytest.raises(PrivacyError, match="either `epochs` or `steps`"):
            calibrate_noise_multiplier(
                target_epsilon=1, target_delta=DELTA, num_examples=100, batch_size=10, **both
            )


def run_epsilon(noise, examples, batch, steps):
    """What `SecureModel.fit` will report for a run on arrays."""
    sampling = PoissonSampling(batch / examples, examples, physical_batch_size(examples, batch))
    return epsilon(phase(sampling, noise, steps), DELTA)


@given(
    # Without the corners of little noise, where composing one loss distribution takes minutes.
    target=st.floats(0.3, 6.0),
    examples=st.integers(200, 2000),
    share=st.floats(0.01, 0.2),
    steps=st.integers(20, 300),
)
@settings(max_examples=4, deadline=None, derandomize=True)
@pytest.mark.slow
def test_calibration_of_random_runs(target, examples, share, steps):
    check_calibration(target, examples, max(1, round(examples * share)), steps)


@pytest.mark.parametrize("run", [(0.5, 400, 40, 3), (3.0, 1000, 32, 20), (9.0, 300, 60, 8)])
def test_calibration_never_overshoots_and_wastes_little(run):
    check_calibration(*run)


def check_calibration(target, examples, batch, steps):
    noise = calibrate_noise_multiplier(
        target_epsilon=target,
        target_delta=DELTA,
        num_examples=examples,
        batch_size=batch,
        steps=steps,
    )
    assert run_epsilon(noise, examples, batch, steps) <= target
    assert run_epsilon(noise * 0.998, examples, batch, steps) > target * 0.9999


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


@pytest.mark.parametrize(
    "sampling", [POISSON, UnstatedSampling(), pytest.param(TRUNCATED, marks=pytest.mark.slow)]
)
def test_max_steps_is_the_last_that_fits(sampling):
    target, before = 3.0, [phase(PoissonSampling(0.01, 5000), 1.0, 20)]
    coming = phase(sampling, 3.0 if sampling == UnstatedSampling() else 1.0)
    steps = max_steps(before, coming, target, DELTA)
    assert steps > 0

    def after(count):
        extra = Phase(**{**coming.__dict__, "steps": count})
        return epsilon([*before, extra], DELTA)

    assert after(steps) <= target < after(steps + 1)


def test_max_steps_is_zero_when_nothing_fits():
    assert max_steps([phase(POISSON, 0.4, 500)], phase(POISSON), 1.0, DELTA) == 0
    assert max_steps([], phase(UnstatedSampling(), 0.3), 1.0, DELTA) == 0


@pytest.mark.parametrize("target", [0.0, -1.0, math.inf, math.nan])
def test_calibration_refuses_what_is_no_budget(target):
    with pytest.raises(PrivacyError, match="positive and finite"):
        calibrate_noise_multiplier(
            target_epsilon=target, target_delta=1e-5, num_examples=1000, batch_size=32, epochs=1
        )


def test_calibration_meets_a_tiny_budget():
    run = {"target_delta": 1e-4, "num_examples": 500, "batch_size": 64, "steps": 50}
    sigma = calibrate_noise_multiplier(target_epsilon=1e-3, **run)
    sampling = PoissonSampling(64 / 500, 500, physical_batch_size(500, 64))
    assert epsilon(Phase(sampling, sigma, 1.0, 64, 50), 1e-4) <= 1e-3
