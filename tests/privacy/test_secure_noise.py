"""Noise from the cryptographic generator: its distribution, its streams, and a hidden key."""

import copy
import pickle

import numpy as np
import pytest
from scipy import stats

from keras_secure import backend
from keras_secure.privacy.noise import NoiseSource

SIZE = 100_000


def draw(size=SIZE, stddev=1.0, seed=0, step=0):
    (values,) = NoiseSource(seed, secure=True).normal([(size,)], stddev, np.int64(step))
    return np.asarray(values)


def is_normal(values, stddev):
    return stats.kstest(values / stddev, "norm").pvalue > 1e-4


def test_distribution_and_that_the_test_rejects_other_scales():
    values = draw(stddev=0.7)
    assert values.dtype == np.float32
    assert is_normal(values, 0.7)
    for wrong in (2 / 3, 3 / 2, 0.97):
        assert not is_normal(values, 0.7 * wrong)


def test_moments_and_tails():
    values = draw(1_000_000).astype("float64")
    assert abs(values.mean()) < 5e-3
    assert abs(values.var() - 1) < 1e-2
    assert abs(stats.skew(values)) < 0.02
    assert abs(stats.kurtosis(values)) < 0.04
    for bound in (2.0, 3.0, 4.0):
        expected = 2 * stats.norm.sf(bound) * len(values)
        assert abs(np.sum(np.abs(values) > bound) - expected) < 5 * np.sqrt(expected)
    assert np.abs(values).max() > 4.4


def test_neighbours_and_halves_are_independent():
    """Every pair of draws enters two values next to each other; they may not correlate."""
    values = draw(400_000).astype("float64")
    limit = 5 / np.sqrt(len(values) / 2)
    for lag in (1, 2, 16, 200_000):
        for first, second in (
            (values[lag:], values[:-lag]),
            (values[lag:] ** 2, values[:-lag] ** 2),
        ):
            assert abs(np.corrcoef(first, second)[0, 1]) < limit
    assert is_normal((values[1:] + values[:-1]) / np.sqrt(2), 1.0)
    assert is_normal((values[1:] - values[:-1]) / np.sqrt(2), 1.0)


@pytest.mark.parametrize("size", [1, 3, 1001])
def test_odd_sizes(size):
    assert draw(size).shape == (size,)
    repeats = np.concatenate([draw(size, step=step) for step in range(200 // size + 5)])
    assert np.isfinite(repeats).all()
    assert is_normal(repeats, 1.0)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_steps_and_keys_are_independent_and_repeatable(jit_compile):
    function = backend.compiled(
        lambda key, step: backend.secure_normal(8001, 1.0, key, step), jit_compile=jit_compile
    )
    keys = ([1, 2, 3, 4], [1, 2, 3, 5], [2, 1, 3, 4], [-1, 2**62, 0, 0])
    rows = [
        np.asarray(function(np.array(key, "int64"), np.int64(step)))
        for key in keys
        for step in (0, 1, 2**33)
    ]
    again = np.asarray(function(np.array(keys[0], "int64"), np.int64(0)))
    np.testing.assert_array_equal(rows[0], again)
    for i, left in enumerate(rows):
        assert is_normal(left, 1.0)
        for right in rows[:i]:
            assert abs(np.corrcoef(left, right)[0, 1]) < 0.07


def test_compiled_and_uncompiled_noise_is_the_same():
    def step(jit_compile):
        function = backend.compiled(
            lambda key: backend.secure_normal(5000, 2.0, key, np.int64(3)), jit_compile=jit_compile
        )
        return np.asarray(function(np.arange(4, dtype="int64")))

    np.testing.assert_allclose(step(False), step(True), atol=1e-5)


def test_values_are_sums_of_several_draws():
    """A single Box-Muller draw of 31-bit radii ends at 6.6; half the sum of four can go beyond.

    What matters here is the grid: multiples that a single draw of a given radius can take are
    spread by the sum, so that small values are not sparse.
    """
    values = np.abs(draw(400_000))
    small = values[values < 1e-4]
    assert len(np.unique(small)) > 0.98 * len(small) > 10


def test_seed_repeats_and_entropy_does_not():
    np.testing.assert_array_equal(draw(50, seed=5), draw(50, seed=5))
    assert not np.array_equal(draw(50, seed=5), draw(50, seed=6))
    one, two = (np.asarray(NoiseSource(None, True)._key) for _ in range(2))
    assert one.nbytes == 32
    assert not np.array_equal(one, two)
    source = NoiseSource(None, True)
    before = np.asarray(source._key)
    source.renew()
    assert not np.intersect1d(before, np.asarray(source._key)).size


def test_copies_have_keys_of_their_own_and_nothing_shows_the_key():
    source = NoiseSource(None, True)
    own = np.asarray(source._key)
    assert "hidden" in repr(source)
    for copied in (copy.deepcopy(source), pickle.loads(pickle.dumps(source))):
        assert np.asarray(copied._key).nbytes == 32
        assert not np.intersect1d(np.asarray(copied._key), own).size
    for word in own:
        assert int(word).to_bytes(8, "little", signed=True) not in pickle.dumps(source)
