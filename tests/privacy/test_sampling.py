"""Batches are Poisson samples, whatever the order of the data, in arrays of one shape."""

import itertools

import numpy as np
import pytest
from scipy import stats

from keras_secure.errors import InputError
from keras_secure.privacy import (
    PoissonBatches,
    PoissonSampling,
    Sampling,
    UnstatedSampling,
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
