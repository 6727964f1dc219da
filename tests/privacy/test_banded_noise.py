"""Banded noise: the matrix it stands for, its sensitivity, and that it forgets when it must."""

import copy
import itertools
import pickle

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, pld
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats

from keras_secure.privacy import DeterministicPasses, Phase, epsilon
from keras_secure.privacy.banded_noise import BandedNoise
from keras_secure.privacy.matrix_factorization import (
    banded_coefficients,
    prefix_error,
    square_root_coefficients,
)
from keras_secure.privacy.noise import NoiseSource


def strategy(coefficients, steps):
    """The dense matrix C."""
    column = np.zeros(steps)
    column[: len(coefficients)] = coefficients[:steps]
    return linalg.toeplitz(column, np.zeros(steps))


def drawn(source, steps, size=64, stddev=1.0, start=0):
    rows = [source.draw(size, stddev, np.int64(step)) for step in range(start, start + steps)]
    return np.array([np.asarray(row) for row in rows])


@pytest.mark.parametrize("bands", [2, 3, 8])
@pytest.mark.parametrize("planned", [None, 30])
@pytest.mark.parametrize("secure", [False, True])
def test_recursion_solves_the_linear_system(bands, planned, secure):
    banded, plain = BandedNoise(bands, 0, secure), NoiseSource(0, secure)
    banded.build(64)
    banded.restart(planned)
    coefficients = (
        square_root_coefficients(bands) if planned is None else banded_coefficients(bands, planned)
    )
    independent = drawn(plain, 30)
    expected = linalg.solve_triangular(strategy(coefficients, 30), independent, lower=True)
    np.testing.assert_allclose(drawn(banded, 30), expected, atol=2e-5)
    banded.restart(planned)
    np.testing.assert_allclose(drawn(banded, 30, stddev=3.0), 3 * expected, atol=1e-4)


def test_covariance_over_steps_and_none_over_coordinates():
    bands, steps, size = 3, 6, 40_000
    source = BandedNoise(bands, 5)
    source.build(size)
    rows = drawn(source, steps, size).astype("float64")
    inverse = np.linalg.inv(strategy(square_root_coefficients(bands), steps))
    np.testing.assert_allclose(rows @ rows.T / size, inverse @ inverse.T, atol=0.05)
    for lag in (1, 2, 100):
        assert abs(np.corrcoef(rows[2, lag:], rows[2, :-lag])[0, 1]) < 5 / np.sqrt(size)
    scale = np.sqrt(np.sum(inverse[-1] ** 2))
    assert stats.kstest(rows[-1] / scale, "norm").pvalue > 1e-4
    for wrong in (2 / 3, 3 / 2, 0.95):
        assert stats.kstest(rows[-1] / scale / wrong, "norm").pvalue < 1e-4


def participations(steps, apart):
    """All sets of steps that lie at least `apart` from each other."""
    for count in range(1, steps // apart + 2):
        for chosen in itertools.combinations(range(steps), count):
            if all(b - a >= apart for a, b in itertools.pairwise(chosen)):
                yield list(chosen)


@pytest.mark.parametrize(("bands", "apart"), [(1, 3), (2, 3), (3, 3), (4, 5)])
def test_sensitivity_by_brute_force_over_all_participations(bands, apart):
    """The largest move of C x by one example's clipped gradients is what the accountant assumes."""
    steps = 11
    passes = DeterministicPasses(apart, bands)
    found = 0.0
    for coefficients in (square_root_coefficients(bands), banded_coefficients(bands, steps)):
        matrix = strategy(coefficients, steps)
        assert np.linalg.norm(matrix, axis=0).max() == pytest.approx(1.0)
        for chosen in participations(steps, apart):
            columns = matrix[:, chosen]
            # Gradients of any directions: the norms of Gram matrices with entries in [-1, 1].
            gram = np.abs(columns.T @ columns)
            np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-12)
            found = max(found, np.sqrt(gram.sum()))
    assert found <= np.sqrt(passes.participations(steps)) * (1 + 1e-9)
    assert found > 0.9 * np.sqrt(passes.participations(steps))
    spent = pld.PLDAccountant().compose(GaussianDpEvent(2.0 / np.sqrt(4 if apart == 3 else 3)))
    assert epsilon(Phase(passes, 2.0, 1.0, 8.0, steps), 1e-5) == pytest.approx(
        spent.get_epsilon(1e-5), rel=1e-6
    )


def test_columns_that_overlap_would_cost_more():
    """What the refusal of more bands than steps of a pass protects from."""
    matrix = strategy(square_root_coefficients(4), 12)
    together = np.linalg.norm(matrix[:, ::3].sum(axis=1))
    assert together > 1.1 * np.sqrt(4)


@pytest.mark.parametrize("steps", [40, 400])
def test_prefix_sums_are_better_than_under_independent_noise(steps):
    errors = {bands: prefix_error(banded_coefficients(bands, steps), steps) for bands in (1, 4, 16)}
    print({bands: round(errors[bands] / errors[1], 4) for bands in errors})
    assert errors[1] == pytest.approx((steps + 1) / 2)
    assert errors[4] < 0.5 * errors[1]
    assert errors[16] < 0.7 * errors[4]
    # The formula against the dense matrices.
    for bands in (1, 4):
        matrix = strategy(banded_coefficients(bands, steps), steps)
        sums = np.tril(np.ones((steps, steps))) @ np.linalg.inv(matrix)
        assert errors[bands] == pytest.approx(np.sum(sums**2) / steps, rel=1e-9)


def test_realized_prefix_sums_have_the_predicted_error():
    steps, size = 60, 4000
    source = BandedNoise(6, 1)
    source.build(size)
    source.restart(steps)
    sums = np.cumsum(drawn(source, steps, size).astype("float64"), axis=0)
    expected = prefix_error(banded_coefficients(6, steps), steps)
    assert np.mean(sums**2) == pytest.approx(expected, rel=0.03)
    plain = np.cumsum(drawn(NoiseSource(1), steps, size).astype("float64"), axis=0)
    assert np.mean(sums**2) < 0.5 * np.mean(plain**2)


@given(bands=st.integers(2, 12), steps=st.integers(12, 300))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_optimized_coefficients_are_no_worse_than_the_square_root(bands, steps):
    best, start = banded_coefficients(bands, steps), square_root_coefficients(bands)
    assert np.linalg.norm(best) == pytest.approx(1.0)
    assert prefix_error(best, steps) <= prefix_error(start, steps)
    nearby = best * (1 + 1e-3 * np.random.default_rng(0).normal(size=bands))
    assert prefix_error(best, steps) <= prefix_error(nearby, steps) * (1 + 1e-5)


def test_a_restart_and_a_new_key_forget_the_past():
    for forget in (BandedNoise.restart, BandedNoise.renew):
        source = BandedNoise(4)
        source.build(64)
        drawn(source, 5)
        assert np.asarray(source._past).any()
        forget(source)
        assert not np.asarray(source._past).any()


def test_a_forbidden_step_changes_nothing():
    source, other = BandedNoise(3, 2), BandedNoise(3, 2)
    for one in (source, other):
        one.build(64)
        drawn(one, 3)
    source.draw(64, 1.0, np.int64(3), np.bool_(False))
    np.testing.assert_array_equal(drawn(source, 4, start=3), drawn(other, 4, start=3))


def test_copies_share_neither_key_nor_past():
    source = BandedNoise(3)
    source.build(64)
    released = drawn(source, 3)
    assert "hidden" in repr(source)
    for copied in (copy.deepcopy(source), pickle.loads(pickle.dumps(source))):
        assert copied._past is None
        copied.build(64)
        assert abs(np.corrcoef(drawn(copied, 3).ravel(), released.ravel())[0, 1]) < 0.5
    assert released[-1].tobytes() not in pickle.dumps(source)
