"""The generator behind the noise: shape of its distribution, independence, and a hidden key."""

import copy
import pickle

import numpy as np
import pytest
from scipy import stats

from keras_secure import backend
from keras_secure.privacy.noise import NoiseSource

SIZE = 200_000


def draw(size=SIZE, stddev=1.0, seed=0, step=0):
    (values,) = NoiseSource(seed).normal([(size,)], stddev, np.int64(step))
    return np.asarray(values)


def is_normal(values, stddev):
    return stats.kstest(values / stddev, "norm").pvalue > 1e-4


def test_distribution_and_that_the_test_rejects_other_scales():
    values = draw(stddev=0.7)
    assert values.dtype == np.float32
    assert is_normal(values, 0.7)
    for wrong in (2 / 3, 3 / 2, 0.98):
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


def test_halves_of_the_transform_are_independent():
    """Cosine and sine share radius and angle; neither they nor their squares may correlate."""
    first, second = np.split(draw(400_000).astype("float64"), 2)
    limit = 5 / np.sqrt(len(first))
    for left in (first, first**2, np.abs(first)):
        for right in (second, second**2, np.abs(second)):
            assert abs(np.corrcoef(left, right)[0, 1]) < limit
    assert stats.kstest((first + second) / np.sqrt(2), "norm").pvalue > 1e-4
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < limit


def threefry(key, counter):
    """Threefry-2x32 with 20 rounds, in numpy, by its definition."""
    keys = [np.uint32(k) for k in key] + [np.uint32(0x1BD11BDA ^ key[0] ^ key[1])]
    left, right = (np.asarray(c, "uint32") + k for c, k in zip(counter, keys, strict=False))
    for number in range(20):
        turn = (13, 15, 26, 6, 17, 29, 16, 24)[number % 8]
        left = left + right
        right = (right << np.uint32(turn) | right >> np.uint32(32 - turn)) ^ left
        if number % 4 == 3:
            turn = number // 4 + 1
            left, right = left + keys[turn % 3], right + keys[(turn + 1) % 3] + np.uint32(turn)
    return left, right


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_the_reference_generator_gives_the_published_words(key, counter, expected):
    with np.errstate(over="ignore"):
        assert tuple(int(word) for word in threefry(key, counter)) == expected


@pytest.mark.parametrize("jit_compile", [False, True])
def test_noise_is_the_reference_generator_shaped_in_double_precision(jit_compile):
    key, step, size = np.array([-(2**62) + 5, 77], "int64"), 12345, 30_000
    draws = backend.compiled(lambda k, c: backend.normal(size, 1.0, k, c), jit_compile=jit_compile)
    found = np.asarray(draws(key, np.int64(step)))
    with np.errstate(over="ignore"):
        words = lambda value: (int(value) & 0xFFFFFFFF, int(value) >> 32 & 0xFFFFFFFF)  # noqa: E731
        inner = [int(word) for word in threefry(words(key[0]), words(key[1] + step))]
        first, second = threefry(inner, (np.arange(size), np.zeros(size, "uint32")))
    radius = np.sqrt(-2 * np.log((np.floor(first / 2.0) + 0.5) / 2**31))
    quadrant, offset = second >> 30, (second << np.uint32(2)).view("int32").astype("float64") + 2
    angle = (quadrant + offset / 2**32) * np.pi / 2
    # A whole number of pairs is drawn; the sines stand behind the cosines of all of them.
    pairs = np.flatnonzero(np.isclose(found, (radius * np.sin(angle))[0], atol=1e-5))[0]
    cosines, sines = (radius * np.cos(angle))[:pairs], (radius * np.sin(angle))[: size - pairs]
    np.testing.assert_allclose(found, np.concatenate([cosines, sines]), atol=2e-5)


def test_radii_reach_beyond_six_standard_deviations():
    """The word zero gives the largest radius; none is infinite."""
    from keras_secure.backend.tensorflow import noise

    zero = np.zeros(2, "complex64")
    cosines, sines = (np.asarray(part) for part in noise.box_muller(zero, np.float32(1.0)))
    np.testing.assert_allclose(np.hypot(cosines, sines), np.sqrt(64 * np.log(2)), rtol=1e-5)
    assert np.hypot(cosines, sines)[0] > 6.6


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1001])
def test_odd_sizes(size):
    values = draw(size)
    assert values.shape == (size,)
    assert np.isfinite(values).all()
    repeats = np.concatenate([draw(size, step=step) for step in range(2000 // size + 40)])
    assert is_normal(repeats, 1.0)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_steps_and_keys_are_independent_and_repeatable(jit_compile):
    function = backend.compiled(
        lambda key, step: backend.normal(20_001, 1.0, key, step), jit_compile=jit_compile
    )
    rows = []
    for key in ([1, 2], [1, 3], [2, 2], [-1, 2**62]):
        for step in (0, 1, 2, 1_000_000, 2**40):
            rows.append(np.asarray(function(np.array(key, "int64"), np.int64(step))))
    again = np.asarray(function(np.array([1, 2], "int64"), np.int64(0)))
    np.testing.assert_array_equal(rows[0], again)
    # Keys (1, 2) and (1, 3) share a generator, and position 1 of one is position 0 of the other;
    # entropy of 128 bits makes such a pair as unlikely as the same key twice.
    shared = {(1, 5), (2, 6)}
    for i, left in enumerate(rows):
        assert is_normal(left, 1.0)
        for j, right in enumerate(rows[:i]):
            if (j, i) not in {(b, a) for a, b in shared} and (j, i) not in shared:
                assert abs(np.corrcoef(left, right)[0, 1]) < 0.05, (j, i)
                assert not np.intersect1d(left[:100], right).size > 3


def test_shifted_streams_do_not_overlap():
    long, later = draw(40_000, step=0), draw(40_000, step=1)
    assert np.intersect1d(long, later).size < 2000  # chance repeats of float32 values only
    for shift in (1, 2, 4, 1000, 20_000):
        assert abs(np.corrcoef(long[shift:], later[:-shift])[0, 1]) < 0.04


def test_variables_get_different_noise():
    one, two, three = NoiseSource(0).normal([(100, 10), (10,), (100, 10)], 1.0, np.int64(0))
    assert np.asarray(two).shape == (10,)
    assert abs(np.corrcoef(np.ravel(one), np.ravel(three))[0, 1]) < 0.2


def test_entropy_differs_and_seed_repeats():
    source = NoiseSource()
    values = [np.asarray(NoiseSource().normal([(50,)], 1.0, np.int64(0))[0]) for _ in range(3)]
    assert not np.array_equal(values[0], values[1])
    np.testing.assert_array_equal(draw(50, seed=5), draw(50, seed=5))
    assert not np.array_equal(draw(50, seed=5), draw(50, seed=6))
    before = np.asarray(source.normal([(50,)], 1.0, np.int64(0))[0])
    source.renew()
    assert not np.array_equal(before, source.normal([(50,)], 1.0, np.int64(0))[0])


def test_copies_have_keys_of_their_own_and_nothing_shows_the_key():
    source = NoiseSource()
    own = np.asarray(source._key)
    assert "hidden" in repr(source)
    for copied in (copy.deepcopy(source), pickle.loads(pickle.dumps(source))):
        assert not np.array_equal(np.asarray(copied._key), own)
    for word in own:
        assert int(word).to_bytes(8, "little", signed=True) not in pickle.dumps(source)
        assert str(int(word)) not in repr(source)
