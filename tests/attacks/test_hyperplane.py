"""Shortest moves to a hyperplane inside a box, against programmes solved by scipy."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_secure import backend
from keras_secure.attacks.hyperplane import step_to_hyperplane

BATCH, SIZE = 6, 7
ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}


def linear_programme(normal, gap, lower, upper, norm):
    """Length of the shortest move in linf or l1, None if there is none."""
    from scipy.optimize import linprog

    size = len(normal)
    if norm == "linf":
        # Variables d and t >= |d|.
        cost = np.append(np.zeros(size), 1.0)
        below = np.block(
            [[np.eye(size), -np.ones((size, 1))], [-np.eye(size), -np.ones((size, 1))]]
        )
        equality = np.append(normal, 0.0)[None]
        bounds = [*zip(lower, upper, strict=True), (0, None)]
        solved = linprog(cost, below, np.zeros(2 * size), equality, [gap], bounds)
    else:
        # Variables d+ and d-.
        bounds = [(0, high) for high in upper] + [(0, -low) for low in lower]
        equality = np.append(normal, -normal)[None]
        solved = linprog(np.ones(2 * size), None, None, equality, [gap], bounds)
    return solved.fun if solved.success else None


def quadratic_programme(normal, gap, lower, upper):
    """The shortest move in l2 by bisection on the multiplier of the hyperplane, or None."""
    furthest = np.where(normal * np.sign(gap) > 0, upper, lower)
    if abs(normal @ furthest) < abs(gap):
        return None
    low, high = 0.0, 1.0
    while abs(normal @ np.clip(np.sign(gap) * high * normal, lower, upper)) < abs(gap):
        low, high = high, 2 * high
        if high > 1e200:
            return furthest
    for _ in range(200):
        middle = (low + high) / 2
        reached = abs(normal @ np.clip(np.sign(gap) * middle * normal, lower, upper)) >= abs(gap)
        low, high = (low, middle) if reached else (middle, high)
    return np.clip(np.sign(gap) * high * normal, lower, upper)


@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    normal = rng.normal(size=(BATCH, SIZE)) * draw(st.sampled_from([1e-3, 1.0, 50.0]))
    lower = -rng.random((BATCH, SIZE)) * draw(st.sampled_from([0.1, 1.0]))
    upper = rng.random((BATCH, SIZE)) * draw(st.sampled_from([0.1, 1.0]))
    if draw(st.booleans()):
        # Ties among weights and among rooms are where a search for a breakpoint goes wrong.
        normal = np.sign(normal) * np.ceil(np.abs(normal))
        lower, upper = np.round(lower, 1), np.round(upper, 1)
    normal[rng.random(normal.shape) < 0.2] = 0.0
    lower[rng.random(lower.shape) < 0.2] = 0.0
    upper[rng.random(upper.shape) < 0.2] = 0.0
    reach = np.abs(normal).sum(axis=1) * draw(st.sampled_from([1e-3, 0.05, 0.2, 0.6]))
    return normal, reach * np.sign(rng.normal(size=BATCH)), lower, upper


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@given(problem=problems())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_no_shorter_move_reaches_the_hyperplane(norm, problem):
    normal, gap, lower, upper = problem
    found = ops.convert_to_numpy(step_to_hyperplane(normal, gap, lower, upper, norm))
    assert (found >= lower).all()
    assert (found <= upper).all()
    for row, (weights, wanted, low, high) in enumerate(zip(*problem, strict=True)):
        length = np.linalg.norm(found[row], ORDERS[norm])
        if norm == "l2":
            truth = quadratic_programme(weights, wanted, low, high)
            expected = None if truth is None else np.linalg.norm(truth)
        else:
            expected = linear_programme(weights, wanted, low, high, norm)
        furthest = np.where(weights * wanted > 0, high, np.where(weights * wanted < 0, low, 0.0))
        if expected is None:
            np.testing.assert_allclose(found[row], furthest, atol=1e-12)
        else:
            scale = np.abs(weights).max()
            np.testing.assert_allclose(weights @ found[row], wanted, atol=1e-9 * scale)
            np.testing.assert_allclose(length, expected, rtol=1e-7, atol=1e-9)


def test_the_quadratic_truth_agrees_with_a_general_solver():
    from scipy.optimize import minimize

    rng = np.random.default_rng(3)
    normal, lower, upper = rng.normal(size=SIZE), -rng.random(SIZE) / 4, rng.random(SIZE) / 4
    gap = 0.9 * np.where(normal > 0, upper, -lower) @ np.abs(normal)
    solved = minimize(
        lambda d: d @ d,
        np.zeros(SIZE),
        jac=lambda d: 2 * d,
        bounds=list(zip(lower, upper, strict=True)),
        constraints={"type": "eq", "fun": lambda d: normal @ d - gap},
        options={"ftol": 1e-10},
    )
    assert solved.success
    truth = quadratic_programme(normal, gap, lower, upper)
    np.testing.assert_allclose(truth, solved.x, atol=1e-6)
    assert (np.isclose(truth, lower) | np.isclose(truth, upper)).any()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_rows_that_say_nothing_do_not_move_and_nothing_becomes_nan(norm):
    normal = np.array(
        [[0, 0, 0], [1, 2, 3], [np.nan, 1, 0], [np.inf, 0, 1], [1, 1, 1], [0, 0, 1], [1, 2, 3]],
        "float32",
    )
    gap = np.array([1.0, 0.0, 0.25, 0.5, np.nan, np.inf, -np.inf], "float32")
    room = np.full(normal.shape, 0.5, "float32")
    found = ops.convert_to_numpy(step_to_hyperplane(normal, gap, -room, room, norm))
    expected = [
        [0, 0, 0],
        [0, 0, 0],
        [0, 0.25, 0],
        [0, 0, 0.5],
        [0, 0, 0],
        [0, 0, 0.5],
        [-0.5, -0.5, -0.5],
    ]
    np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-6, 1e6, 1e30])
def test_the_scale_of_the_gradient_does_not_matter(norm, scale):
    rng = np.random.default_rng(5)
    # Powers of two, so that scaling to the edge of float32 and below it rounds nothing.
    normal = 2.0 ** rng.integers(0, 3, (3, 20)) * rng.choice([-1.0, 1.0], (3, 20))
    factor = 2.0 ** np.round(np.log2(scale))
    room = rng.random((3, 20)).astype("float32")
    gap = np.array([0.5, -2.0, 4.0])
    plain, scaled = (
        ops.convert_to_numpy(
            step_to_hyperplane(
                (normal * f).astype("float32"), (gap * f).astype("float32"), -room, room, norm
            )
        )
        for f in (1.0, factor)
    )
    if scale > 1e-38:
        np.testing.assert_allclose(scaled, plain, rtol=1e-6)
    # What processors flush to zero counts as no gradient; it is never NaN.
    assert np.isfinite(scaled).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_weights_of_very_different_size(norm):
    normal = (10.0 ** -np.arange(0, 36, 2.0)).astype("float32")[None]
    room = np.full_like(normal, 0.5)
    # All that can be reached, and a little more: everything that helps goes all the way.
    gap = np.asarray([0.5 * normal.sum() * 1.5], "float32")
    found = ops.convert_to_numpy(step_to_hyperplane(normal, gap, -room, room, norm))
    np.testing.assert_allclose(found[0, :8], 0.5)
    assert (found >= 0).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_several_points_many_dimensions_and_compiled(norm, jit_compile):
    rng = np.random.default_rng(7)
    normal = rng.standard_t(2, size=(4, 3072)).astype("float32")
    points = rng.random((2, 4, 3072)).astype("float32")
    gap = np.array([[0.1, -3.0, 20.0, 200.0], [1.0, -30.0, 2.0, 0.0]], "float32")
    kernel = backend.compiled(
        lambda *tensors: step_to_hyperplane(*tensors, norm), jit_compile=jit_compile
    )
    found = ops.convert_to_numpy(
        kernel(*map(ops.convert_to_tensor, (normal, gap, -points, 1 - points)))
    )
    exact = ops.convert_to_numpy(
        step_to_hyperplane(
            normal.astype("float64"),
            gap.astype("float64"),
            -points.astype("float64"),
            1 - points.astype("float64"),
            norm,
        )
    )
    np.testing.assert_allclose((normal.astype("float64") * exact).sum(-1), gap, atol=1e-9)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    np.testing.assert_allclose(found, exact, atol=3e-5)
    reached = (normal.astype("float64") * found).sum(-1)
    np.testing.assert_allclose(reached, gap, atol=2e-6 * np.abs(normal).max(axis=1).max())
    lengths = np.linalg.norm(found.astype("float64"), ORDERS[norm], axis=-1)
    expected = np.linalg.norm(exact, ORDERS[norm], axis=-1)
    np.testing.assert_allclose(lengths, expected, rtol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_one_row_never_moves_another(norm):
    rng = np.random.default_rng(9)
    normal = rng.normal(size=(3, 8)).astype("float32")
    room = rng.random((3, 8)).astype("float32")
    gap = np.array([0.3, 0.5, -0.2], "float32")
    poisoned, strange = normal.copy(), gap.copy()
    poisoned[1], strange[1] = np.nan, np.inf
    clean = ops.convert_to_numpy(step_to_hyperplane(normal, gap, -room, room, norm))
    dirty = ops.convert_to_numpy(step_to_hyperplane(poisoned, strange, -room, room, norm))
    np.testing.assert_array_equal(clean[[0, 2]], dirty[[0, 2]])
