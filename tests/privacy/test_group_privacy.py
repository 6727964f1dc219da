"""Users with several examples: bounded, and accounted by the mechanism that moves them together."""

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import dp_event, pld
from dp_accounting.pld import privacy_loss_distribution
from scipy import stats

from keras_secure.errors import InputError, PrivacyError
from keras_secure.privacy import (
    BallsInBinsSampling,
    DeterministicPasses,
    Phase,
    PoissonSampling,
    UnstatedSampling,
    bound_contributions,
    delta,
    epsilon,
)

DELTA = 1e-5


def phase(sampling, noise=2.0, steps=20):
    return Phase(sampling, noise, 1.0, 64.0, steps)


def gaussian_delta(eps, mu):
    """Delta of the Gaussian mechanism with sensitivity over noise mu (Balle and Wang 2018)."""
    upper = stats.norm.cdf(mu / 2 - eps / mu)
    return upper - math.exp(eps) * stats.norm.cdf(-mu / 2 - eps / mu)


@pytest.mark.parametrize("group", [1, 3])
def test_unsampled_groups_are_a_gaussian_of_larger_sensitivity(group):
    sampled = {UnstatedSampling(): 20, DeterministicPasses(steps_per_epoch=10): 2}
    for sampling, participations in sampled.items():
        spent = epsilon(phase(sampling, 8.0), DELTA, max_examples_per_user=group)
        mu = group * math.sqrt(participations) / 8.0
        assert gaussian_delta(spent, mu) == pytest.approx(DELTA, rel=0.02)
        # Wrong by one example it would not do.
        assert gaussian_delta(spent, mu * (group + 1) / group) > 3 * DELTA


def test_poisson_groups_are_a_mixture_of_gaussians():
    sampling, group = PoissonSampling(0.05, 1000), 3
    chances = [math.comb(group, j) * 0.05**j * 0.95 ** (group - j) for j in range(group + 1)]
    event = dp_event.MixtureOfGaussiansDpEvent(4.0, list(range(group + 1)), chances)
    accountant = pld.PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    accountant.compose(dp_accounting.SelfComposedDpEvent(event, 20))
    spent = epsilon(phase(sampling, 4.0), DELTA, max_examples_per_user=group)
    assert spent == pytest.approx(accountant.get_epsilon(DELTA), rel=1e-6)
    # Between one single example, and one that is always three times as large.
    assert spent > epsilon(phase(sampling, 4.0), DELTA)
    worst = privacy_loss_distribution.from_gaussian_mechanism(4.0 / group, sampling_prob=0.15)
    assert spent < worst.self_compose(20).get_epsilon_for_delta(DELTA)


def test_a_group_of_one_is_a_single_example():
    sampling = PoissonSampling(0.05, 1000)
    single = epsilon(phase(sampling), DELTA)
    loss = sampling.group_loss_distribution(2.0, 20, 1)
    assert loss.get_epsilon_for_delta(DELTA) == pytest.approx(single, rel=1e-3)
    cut = PoissonSampling(0.05, 1000, 80)
    single = epsilon(phase(cut), DELTA)
    loss = cut.group_loss_distribution(2.0, 20, 1)
    assert loss.get_epsilon_for_delta(DELTA) == pytest.approx(single, rel=2e-3)


def test_cutting_costs_a_group_more_where_there_is_less_room():
    spent = [
        epsilon(phase(PoissonSampling(0.05, 1000, rows), 4.0), DELTA, max_examples_per_user=3)
        for rows in (55, 70, 90, None)
    ]
    assert spent == sorted(spent, reverse=True)
    assert spent[0] > 1.2 * spent[3]
    assert spent[2] == pytest.approx(spent[3], rel=2e-3)


def test_cut_batches_are_bounded_by_simulation():
    """The bound holds against the worst case, played out: 2 rows, a group that fills them."""
    generator = np.random.default_rng(0)
    rows, others, group, probability, noise, trials = 2, 4, 2, 0.4, 1.5, 100_000

    def played(group_size):
        # The group's gradients are +1 each, everyone else's are -1: pushing out counts double.
        chosen_others = generator.binomial(others, probability, trials)
        chosen_group = generator.binomial(group_size, probability, trials)
        total = chosen_others + chosen_group
        kept = np.minimum(total, rows)
        of_group = generator.hypergeometric(chosen_group, chosen_others, kept)
        return 2 * of_group - kept + generator.normal(0, noise, trials)

    sampling = PoissonSampling(probability, others + group, rows)
    with_group, without = played(group), played(0)
    for eps in (0.25, 0.5, 1.0):
        bound = delta(phase(sampling, noise, 1), eps, max_examples_per_user=group)
        for above, below in ((with_group, without), (-without, -with_group)):
            # The best threshold test; its power is no estimate that favours the bound.
            edges = np.linspace(-6, 8, 29)
            gains = [np.mean(above > e) - math.exp(eps) * np.mean(below > e) for e in edges]
            assert max(gains) < bound + 0.005
        # Without counting who is pushed out, the bound would be too small.
        free = delta(phase(PoissonSampling(probability, 6), noise, 1), eps, max_examples_per_user=2)
        assert free < bound


def test_other_samplings_fall_back_on_what_holds_for_any_mechanism():
    sampling, group = BallsInBinsSampling(10), 3
    single = phase(sampling, 6.0, 10)
    spent = epsilon(single, DELTA, max_examples_per_user=group)
    share = spent / group
    # Dwork and Roth: epsilons add, deltas add with weights e^(i epsilon).
    needed = DELTA / sum(math.exp(i * share) for i in range(group))
    assert epsilon(single, needed) == pytest.approx(share, rel=2e-3)
    assert delta(single, spent, max_examples_per_user=group) == pytest.approx(DELTA, rel=0.02)
    # One phase without a bound of its own, and all are taken together.
    mixed = [single, phase(UnstatedSampling(), 30.0, 1)]
    assert epsilon(mixed, DELTA, max_examples_per_user=group) > spent


def test_contributions_are_bounded_at_random():
    users = np.repeat(np.arange(50), np.arange(50))
    kept = bound_contributions(users, 7)
    assert kept.dtype == np.int64
    assert (np.diff(kept) > 0).all()
    counts = np.bincount(users[kept], minlength=50)
    np.testing.assert_array_equal(counts, np.minimum(np.arange(50), 7))
    assert not np.array_equal(kept, bound_contributions(users, 7))
    np.testing.assert_array_equal(
        bound_contributions(users, 7, seed=1), bound_contributions(users, 7, seed=1)
    )
    # Every example of a user is kept equally often.
    users = np.array(["a"] * 6 + ["b"] * 2)
    often = np.zeros(8)
    for _ in range(2000):
        often[bound_contributions(users, 3)] += 1
    assert np.all(np.abs(often[:6] - 1000) < 130)
    assert np.all(often[6:] == 2000)
    assert len(bound_contributions([], 3)) == 0


def test_refusals():
    for bound in (0, -1, 1.5):
        with pytest.raises(InputError, match="whole number of at least 1"):
            bound_contributions([1, 2], bound)
        with pytest.raises(PrivacyError, match="whole number of at least 1"):
            epsilon(phase(UnstatedSampling()), DELTA, max_examples_per_user=bound)
    with pytest.raises(InputError, match="one identity for every example"):
        bound_contributions(np.zeros((2, 2)), 1)
    with pytest.raises(PrivacyError, match="single examples only"):
        epsilon(phase(UnstatedSampling()), DELTA, accountant="rdp", max_examples_per_user=2)
