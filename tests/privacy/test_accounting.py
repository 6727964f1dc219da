"""Epsilon is that of `dp-accounting`, and calibration and limits never overshoot."""

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld, rdp
from dp_accounting.pld import privacy_loss_distribution
from scipy import stats

from keras_secure.errors import PrivacyError
from keras_secure.privacy import (
    BallsInBinsSampling,
    DeterministicPasses,
    Phase,
    PoissonSampling,
    UnstatedSampling,
    delta,
    epsilon,
    max_steps,
    max_true_positive_rate,
    physical_batch_size,
    privacy_curve,
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


# Noise that leaves something to protect; less takes the accountant longer.
@pytest.mark.parametrize(
    ("sampling", "noise"), [(POISSON, 1.3), (TRUNCATED, 2.5), (UnstatedSampling(), 12.0)]
)
def test_epsilon_is_that_of_the_accountant(sampling, noise):
    expected = direct([event(sampling, noise, 150)], DELTA)
    assert epsilon(phase(sampling, noise, 150), DELTA) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("sampling", "noise"), [(POISSON, 1.3), (UnstatedSampling(), 12.0)])
def test_renyi_epsilon_is_that_of_the_accountant(sampling, noise):
    expected = direct([event(sampling, noise, 150)], DELTA, "rdp")
    found = epsilon(phase(sampling, noise, 150), DELTA, accountant="rdp")
    assert found == pytest.approx(expected, rel=1e-12)
    assert found > epsilon(phase(sampling, noise, 150), DELTA)


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
    plain, static = (epsilon(phase(s, 2.0, 200), DELTA) for s in (POISSON, TRUNCATED))
    assert plain <= static <= plain * 1.002


def test_unstated_sampling_costs_more():
    unstated, sampled = (epsilon(phase(s, 4.0), DELTA) for s in (UnstatedSampling(), POISSON))
    assert unstated > 10 * sampled


def test_nothing_and_no_noise():
    assert epsilon([], DELTA) == 0.0
    assert epsilon(phase(POISSON, steps=0), DELTA) == 0.0
    assert epsilon([phase(POISSON), phase(POISSON, noise=0.0)], DELTA) == math.inf


def test_refusals():
    with pytest.raises(PrivacyError, match="strictly in"):
        epsilon(phase(POISSON), 0.0)
    with pytest.raises(PrivacyError, match="use 'pld' or 'rdp'"):
        epsilon(phase(POISSON), DELTA, accountant="moments")
    with pytest.raises(PrivacyError, match="finite and >= 0"):
        delta(phase(POISSON), -1.0)
    with pytest.raises(PrivacyError, match="either `deltas` or `epsilons`"):
        privacy_curve(phase(POISSON))
    with pytest.raises(PrivacyError, match="accountant='pld'"):
        epsilon(phase(BallsInBinsSampling(10)), DELTA, accountant="rdp")
    with pytest.raises(PrivacyError, match="strictly in"):
        max_true_positive_rate(phase(POISSON), 1.0)


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
    assert max_steps([phase(POISSON, 0.8, 500)], phase(POISSON), 1.0, DELTA) == 0
    assert max_steps([], phase(UnstatedSampling(), 1.0), 1.0, DELTA) == 0


@pytest.mark.parametrize(("sampling", "noise"), [(POISSON, 1.3), (UnstatedSampling(), 12.0)])
def test_delta_is_that_of_the_accountant(sampling, noise):
    accountant = pld.PLDAccountant()
    accountant.compose(event(sampling, noise, 150))
    for target in (0.0, 0.5, 2.0):
        found = delta(phase(sampling, noise, 150), target)
        assert found == pytest.approx(accountant.get_delta(target), rel=1e-6)
        assert found < delta(phase(sampling, noise, 150), target, accountant="rdp") <= 1.0
    assert delta([], 1.0) == 0.0
    assert delta(phase(POISSON, noise=0.0), 1.0) == 1.0


def gaussian_delta(target, mu):
    """Delta of the Gaussian mechanism with sensitivity over noise mu (Balle and Wang 2018)."""
    upper = stats.norm.cdf(mu / 2 - target / mu)
    return upper - math.exp(target) * stats.norm.cdf(-mu / 2 - target / mu)


def test_closed_form_of_unsampled_steps():
    mu = math.sqrt(9) / 6.0
    for target in (0.1, 0.5, 1.0, 2.0):
        found = delta(phase(UnstatedSampling(), 6.0, 9), target)
        exact = gaussian_delta(target, mu)
        assert exact <= found <= exact * 1.001
        # Wrong noise, by a factor of 3/2 either way, is far off.
        for factor in (1.5, 2 / 3):
            assert gaussian_delta(target, mu * factor) != pytest.approx(found, rel=0.1)


def test_curve_holds_both_ways():
    phases = [phase(POISSON, 1.3, 50), phase(UnstatedSampling(), 8.0, 2)]
    deltas = [1e-3, 1e-5, 1e-8]
    epsilons, given = privacy_curve(phases, deltas=deltas)
    assert given.tolist() == deltas
    assert epsilons.tolist() == [epsilon(phases, d) for d in deltas]
    back, found = privacy_curve(iter(phases), epsilons=epsilons)
    assert back.tolist() == epsilons.tolist()
    np.testing.assert_allclose(found, deltas, rtol=1e-3)
    np.testing.assert_allclose(found, [delta(phases, e) for e in epsilons], rtol=1e-9)
    for options in ({"accountant": "rdp"}, {"max_examples_per_user": 2}):
        looser, _ = privacy_curve(phases, deltas=deltas, **options)
        assert np.all(looser > epsilons)
        held = privacy_curve(phases, epsilons=looser, **options)[1]
        assert np.all(held <= np.asarray(deltas) * 1.01)
    assert privacy_curve([], deltas=deltas)[0].tolist() == [0.0, 0.0, 0.0]


def test_renyi_accounting_knows_cut_batches():
    """Never tighter than the exact bound, and without a loss where there is room."""
    roomy = PoissonSampling(0.02, 5000, 400)
    free = epsilon(phase(POISSON, 1.3, 150), DELTA, accountant="rdp")
    assert epsilon(phase(roomy, 1.3, 150), DELTA, accountant="rdp") == pytest.approx(free, rel=1e-9)
    usual = epsilon(phase(TRUNCATED, 1.3, 150), DELTA, accountant="rdp")
    assert free < usual < 2.5 * free
    assert usual > epsilon(phase(TRUNCATED, 1.3, 150), DELTA)
    tight = PoissonSampling(0.02, 5000, 105)
    assert epsilon(phase(tight, 1.3, 150), DELTA, accountant="rdp") > usual
    # Where every batch is cut, nothing is left but sensitivity 2.
    full = PoissonSampling(0.5, 100, 10)
    two = phase(PoissonSampling(0.5, 100), 2.0, 5)
    found = epsilon(phase(full, 4.0, 5), DELTA, accountant="rdp")
    assert found == pytest.approx(epsilon(two, DELTA, accountant="rdp"), rel=1e-6)


def test_joined_phases_cost_what_one_costs():
    resumed = [phase(POISSON, steps=n) for n in (40, 1, 1, 58)]
    assert epsilon(resumed, DELTA) == epsilon(phase(POISSON, steps=100), DELTA)
    mixed = [resumed[0], phase(UnstatedSampling(), 9.0, 2), *resumed[1:]]
    assert epsilon(mixed, DELTA) == epsilon([phase(POISSON, steps=100), mixed[1]], DELTA)
    # Passes over the data that were begun count whole, in every phase.
    halves = [phase(DeterministicPasses(10), 8.0, 5)] * 2
    whole = phase(DeterministicPasses(10), 8.0, 20)
    assert epsilon(halves, DELTA) == pytest.approx(epsilon(whole, DELTA), rel=1e-3)


def test_membership_tests_are_bounded_as_the_gaussian_mechanism_bounds_them():
    """Dong et al. 2022: the best test of a Gaussian mechanism has power Phi(Phi^-1(rate) + mu)."""
    for mu in (0.2, 1.0, 2.5):
        gaussian = phase(UnstatedSampling(), 3.0 / mu, 9)
        for rate in (0.001, 0.01, 0.2):
            exact = stats.norm.cdf(stats.norm.ppf(rate) + mu)
            found = max_true_positive_rate(gaussian, rate)
            assert exact * (1 - 1e-9) <= found <= exact * 1.01 + 1e-4
    assert max_true_positive_rate([], 0.3) == pytest.approx(0.3)
    assert max_true_positive_rate(phase(POISSON, noise=0.0), 0.3) == 1.0
