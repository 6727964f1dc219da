"""Batches are Poisson samples, whatever the order of the data, in arrays of one shape."""

import itertools

import numpy as np
import pytest
from scipy import stats

from keras_secure.errors import InputError, PrivacyError
from keras_secure.privacy import (
    BallsInBinsBatches,
    BallsInBinsSampling,
    DeterministicBatches,
    DeterministicPasses,
    Phase,
    PoissonBatches,
    PoissonSampling,
    Sampling,
    UnstatedSampling,
    epsilon,
    physical_batch_size,
)

EXAMPLES, MEAN, DRAWS = 40, 8, 6000


def poisson_draws(count=DRAWS, rows=EXAMPLES, seed=1):
    batches = PoissonBatches(
        {"x": np.arange(EXAMPLES)}, PoissonSampling(MEAN / EXAMPLES, EXAMPLES, rows), seed
    )
    included = np.zeros((count, EXAMPLES), bool)
    for row in included:
        row[batches.draw()] = True
    return included


def shuffled_draws():
    rng = np.random.default_rng(0)
    included = np.zeros((DRAWS, EXAMPLES), bool)
    for row in included:
        row[rng.permutation(EXAMPLES)[:MEAN]] = True
    return included


def has_poisson_sizes(included):
    """Chi-square of the batch sizes against the binomial, small classes joined."""
    sizes = included.sum(axis=1)
    edges = np.array([-1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, EXAMPLES])
    law = stats.binom(EXAMPLES, MEAN / EXAMPLES)
    expected = np.diff(law.cdf(edges)) * len(sizes)
    observed = np.histogram(sizes, edges + 0.5)[0]
    return stats.chisquare(observed, expected).pvalue > 1e-4


def has_independent_pairs(included):
    """The number of joint inclusions of each pair, on average and in its spread."""
    p, count = MEAN / EXAMPLES, len(included)
    joint = included.T.astype("float64") @ included
    pairs = joint[np.triu_indices(EXAMPLES, 1)]
    error = np.sqrt(p**2 * (1 - p**2) * count)
    # The mean over all pairs is that of size * (size - 1), whose spread follows the binomial's.
    sizes = included.sum(axis=1)
    expected = EXAMPLES * (EXAMPLES - 1) * p**2
    spread = np.std(sizes * (sizes - 1.0)) / np.sqrt(count) + 1e-9
    return (
        np.abs(pairs - p**2 * count).max() < 5 * error
        and abs(np.mean(sizes * (sizes - 1.0)) - expected) < 5 * spread
    )


def test_every_example_is_included_at_the_stated_rate():
    counts = poisson_draws().sum(axis=0)
    p = MEAN / EXAMPLES
    scores = (counts - DRAWS * p) / np.sqrt(DRAWS * p * (1 - p))
    assert stats.kstest(scores, "norm").pvalue > 1e-3
    assert np.abs(scores).max() < 4.5


def test_sizes_are_binomial_and_those_of_shuffling_are_not():
    assert has_poisson_sizes(poisson_draws())
    assert not has_poisson_sizes(shuffled_draws())


def test_pairs_are_independent_and_those_of_shuffling_are_not():
    assert has_independent_pairs(poisson_draws())
    assert not has_independent_pairs(shuffled_draws())


def test_batches_are_independent_of_each_other():
    included = poisson_draws().astype("float64")
    for lag in (1, 2, 5):
        product = (included[:-lag] * included[lag:]).mean()
        assert product == pytest.approx((MEAN / EXAMPLES) ** 2, rel=0.02)


def test_truncation_keeps_a_uniform_part():
    included = poisson_draws(rows=9)
    sizes = included.sum(axis=1)
    assert sizes.max() == 9
    law = stats.binom(EXAMPLES, MEAN / EXAMPLES)
    assert np.mean(sizes == 9) == pytest.approx(law.sf(8), abs=0.03)
    counts = included.sum(axis=0)
    assert stats.chisquare(counts).pvalue > 1e-4


def test_order_of_the_data_does_not_matter():
    """A fixed half of the examples, in front or spread, is included as often as the rest."""
    counts = poisson_draws(seed=3).sum(axis=0)
    for half in (np.arange(EXAMPLES) < EXAMPLES // 2, np.arange(EXAMPLES) % 2 == 0):
        difference = counts[half].mean() - counts[~half].mean()
        assert abs(difference) < 5 * np.sqrt(DRAWS * 0.16 * 2 / 20)


def test_batches_have_one_shape_and_a_mask():
    data = {"x": (np.arange(30.0), np.arange(60).reshape(30, 2)), "y": np.arange(30)}
    sampling = PoissonSampling(0.2, 30, physical_batch_size(30, 6))
    rows = sampling.physical_batch_size
    seen = set()
    for batch in itertools.islice(PoissonBatches(data, sampling, 0), 200):
        assert batch["x"][0].shape == batch["y"].shape == batch["mask"].shape == (rows,)
        assert batch["x"][1].shape == (rows, 2)
        np.testing.assert_array_equal(batch["x"][0], batch["y"])
        np.testing.assert_array_equal(batch["x"][1][:, 0], 2 * batch["y"])
        real = batch["y"][batch["mask"]]
        assert len(set(real.tolist())) == len(real)
        assert (np.diff(batch["mask"].astype(int)) <= 0).all()
        seen.add(int(batch["mask"].sum()))
    assert len(seen) > 5


def test_empty_batches_occur_and_are_all_padding():
    sampling = PoissonSampling(0.05, 20, 8)
    batches = itertools.islice(PoissonBatches({"x": np.arange(20)}, sampling, 0), 100)
    empty = [batch for batch in batches if not batch["mask"].any()]
    assert 15 < len(empty) < 60
    assert empty[0]["x"].shape == (8,)


def test_probability_one_takes_everything():
    batches = PoissonBatches({"x": np.arange(10)}, PoissonSampling(1.0, 10, 10), None)
    assert sorted(batches.draw().tolist()) == list(range(10))


def test_seed_repeats_and_entropy_does_not():
    def first(seed):
        sampling = PoissonSampling(0.5, 100, 100)
        return PoissonBatches({"x": np.arange(100)}, sampling, seed).draw().tolist()

    assert first(1) == first(1) != first(2)
    assert first(None) != first(None)


@pytest.mark.parametrize(("examples", "mean"), [(60000, 256), (1797, 64), (100, 5), (100, 100)])
def test_physical_batch_size_holds_almost_all_draws(examples, mean):
    rows = physical_batch_size(examples, mean)
    assert mean <= rows <= examples
    assert rows % 8 == 0 or rows == examples
    assert stats.binom(examples, mean / examples).sf(rows) < 2e-5


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.5, float("nan")])
def test_impossible_probabilities_are_refused(probability):
    with pytest.raises(InputError, match=r"must lie in \(0, 1\]"):
        PoissonSampling(probability, 10)


def test_configuration():
    sampling = PoissonSampling(0.1, 50, 16)
    assert Sampling.from_config(sampling.get_config()) == sampling
    assert UnstatedSampling() == UnstatedSampling()


def deterministic(count=10, size=4, **options):
    return DeterministicBatches({"x": np.arange(count)}, count, size, **options)


def drawn(batches, count, position=0):
    stream = itertools.islice(batches.starting_at(position), count)
    return [batch["x"][batch["mask"]].tolist() for batch in stream]


def test_deterministic_batches_repeat_pass_by_pass():
    batches = deterministic(shuffle=False)
    assert drawn(batches, 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [0, 1, 2, 3]]
    assert drawn(batches, 3, position=4) == drawn(batches, 3, position=1)
    shuffled = deterministic(seed=None)
    first = drawn(shuffled, 3)
    assert drawn(shuffled, 6) == first + first
    assert sorted(itertools.chain(*first)) == list(range(10)) != list(itertools.chain(*first))
    assert {batch["x"].shape for batch in itertools.islice(shuffled, 6)} == {(4,)}


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 9, 15])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_deterministic_passes_count_no_participation_too_few(steps, position):
    batches = deterministic()
    seen = np.zeros(10, int)
    for chosen in drawn(batches, steps, position):
        seen[chosen] += 1
    assert seen.max() <= batches.sampling.participations(steps) <= seen.max() + 1


def test_deterministic_passes_cost_one_gaussian_of_all_participations():
    passes = DeterministicPasses(10)
    for steps, count in ((1, 1), (10, 1), (11, 2), (30, 3)):
        expected = UnstatedSampling().loss_distribution(2.0, count).get_epsilon_for_delta(1e-5)
        found = passes.loss_distribution(2.0, steps).get_epsilon_for_delta(1e-5)
        assert found == pytest.approx(expected, rel=1e-12)
        phase = Phase(passes, 2.0, 1.0, 8.0, steps)
        assert epsilon(phase, 1e-5) == pytest.approx(expected, rel=1e-9)
        assert epsilon(phase, 1e-5, accountant="rdp") > expected
    # Passes begun in two fits are whole ones in each.
    half = Phase(passes, 2.0, 1.0, 8.0, 15)
    assert epsilon([half, half], 1e-5) == pytest.approx(
        UnstatedSampling().loss_distribution(2.0, 4).get_epsilon_for_delta(1e-5), rel=1e-3
    )


def balls(count=40, size=8, steps=20, seed=1):
    return BallsInBinsBatches({"x": np.arange(count)}, count, size, steps, seed)


def bins_of(batches, passes):
    """(passes, examples): the bin of every example in every pass."""
    count, bins = batches._num_examples, batches.sampling.steps_per_epoch
    found = np.full((passes, count), -1)
    for step, chosen in enumerate(drawn(batches, passes * bins)):
        assert (found[step // bins, chosen] == -1).all()
        found[step // bins, chosen] = step % bins
    return found


def test_balls_land_in_one_bin_each_uniformly_and_independently():
    passes = 600
    found = bins_of(balls(steps=passes * 5), passes)
    assert (found >= 0).all()
    counts = np.array([np.bincount(column, minlength=5) for column in found.T])
    assert stats.chisquare(counts.ravel()).pvalue > 1e-4
    # Two examples share a bin, and one stays in its bin from pass to pass, one time in five.
    pairs = (found[:, ::2] == found[:, 1::2]).mean()
    repeats = (found[1:] == found[:-1]).mean()
    for share, trials in ((pairs, passes * 20), (repeats, passes * 40)):
        assert abs(share - 0.2) < 5 * np.sqrt(0.16 / trials)
    # Sizes of bins vary as the binomial does; those of a shuffled data set would not vary.
    sizes = np.array([np.bincount(row, minlength=5) for row in found])
    assert sizes.var() == pytest.approx(40 * 0.2 * 0.8, rel=0.1)


def test_balls_in_bins_go_on_where_they_are_asked_to_and_never_cut():
    batches = balls()
    whole = drawn(batches, 20)
    for position in (3, 7, 19):
        assert drawn(batches, 20 - position, position) == whole[position:]
    assert {batch["x"].shape for batch in itertools.islice(batches, 20)} == {(batches.num_rows,)}
    assert sum(map(len, whole)) == 4 * 40
    with pytest.raises(PrivacyError, match="fit again"):
        drawn(batches, 80)
    assert balls(seed=2).num_rows == batches.num_rows


def sampled_deltas(noise, bins, epsilon_, count, rng):
    """Monte Carlo deltas of removing and adding, with five standard errors."""
    logs = []
    for shift in (1.0, 0.0):
        scores = rng.normal(size=(count, bins)) * noise
        scores[:, 0] += shift
        exponents = scores / noise**2 - 1 / (2 * noise**2)
        logs.append(np.log(np.exp(exponents).mean(axis=1)))
    found = []
    for losses in (logs[0], -logs[1]):
        values = np.maximum(0.0, 1.0 - np.exp(epsilon_ - losses))
        found.append((values.mean(), 5 * values.std() / np.sqrt(count)))
    return found


@pytest.mark.parametrize(
    ("noise", "bins", "at"), [(1.5, 10, 0.5), (2.0, 40, 0.2), (1.2, 3, 1.0), (4.0, 2, 0.1)]
)
def test_loss_of_balls_in_bins_is_that_of_the_dominating_pair(noise, bins, at):
    loss = BallsInBinsSampling(bins).loss_distribution(noise, bins)
    directions = (loss._pmf_remove, loss._pmf_add)
    sampled = sampled_deltas(noise, bins, at, 200_000, np.random.default_rng(0))
    for direction, (mean, error) in zip(directions, sampled, strict=True):
        delta = direction.get_delta_for_epsilon(at)
        assert mean - error < delta < mean + error + 1e-9
        assert error < 0.2 * mean


def test_loss_of_two_bins_is_never_below_an_exact_integral():
    """With two bins the delta is a double integral, computed here on a fine grid from below."""
    noise, at = 1.5, 0.7
    points = np.linspace(-9 * noise, 9 * noise + 1, 3001)
    step = points[1] - points[0]

    def density(centre):
        return np.exp(-((points - centre) ** 2) / (2 * noise**2)) / np.sqrt(2 * np.pi) / noise

    one, zero = density(1.0), density(0.0)
    p = 0.5 * (np.outer(one, zero) + np.outer(zero, one))
    q = np.outer(zero, zero)
    remove = np.maximum(p - np.exp(at) * q, 0.0).sum() * step**2
    add = np.maximum(q - np.exp(at) * p, 0.0).sum() * step**2
    loss = BallsInBinsSampling(2).loss_distribution(noise, 2)
    for found, exact in (
        (loss._pmf_remove.get_delta_for_epsilon(at), remove),
        (loss._pmf_add.get_delta_for_epsilon(at), add),
    ):
        assert exact * (1 - 1e-6) <= found <= exact * (1 + 1e-3)


def test_balls_in_bins_cost_a_little_less_than_poisson_batches_and_count_whole_passes():
    noise, bins = 2.0, 50
    one, two = (BallsInBinsSampling(bins).loss_distribution(noise, n) for n in (bins, bins + 1))
    poisson = PoissonSampling(1 / bins, 1000)
    found = one.get_epsilon_for_delta(1e-5)
    assert 0.8 * epsilon(Phase(poisson, noise, 1.0, 20.0, bins), 1e-5) < found
    assert found < epsilon(Phase(poisson, noise, 1.0, 20.0, bins), 1e-5)
    assert found < two.get_epsilon_for_delta(1e-5)
    plain = UnstatedSampling().loss_distribution(noise, 1).get_epsilon_for_delta(1e-5)
    assert found < 0.3 * plain
    single = BallsInBinsSampling(1).loss_distribution(noise, 1).get_epsilon_for_delta(1e-5)
    assert single == pytest.approx(plain, rel=1e-9)
    # Too little noise for the grid: the bound without amplification.
    weak = BallsInBinsSampling(bins).loss_distribution(0.3, bins).get_epsilon_for_delta(1e-5)
    assert weak == pytest.approx(
        UnstatedSampling().loss_distribution(0.3, 1).get_epsilon_for_delta(1e-5), rel=1e-9
    )
    with pytest.raises(PrivacyError, match="accountant='pld'"):
        BallsInBinsSampling(bins).event(noise, bins)


@pytest.mark.parametrize(
    "sampling", [DeterministicPasses(7), DeterministicPasses(7, bands=3), BallsInBinsSampling(9)]
)
def test_configuration_of_passes(sampling):
    assert Sampling.from_config(sampling.get_config()) == sampling
    assert sampling.counts_passes
    assert not PoissonSampling(0.1, 10).counts_passes


@pytest.mark.parametrize("steps", [0, -1, 2.0, True, None])
def test_impossible_passes_are_refused(steps):
    for kind in (DeterministicPasses, BallsInBinsSampling):
        with pytest.raises(InputError, match="positive int"):
            kind(steps)
    with pytest.raises(PrivacyError, match="at most 4 bands"):
        DeterministicPasses(4, bands=5)
