"""The joint projections against a slow truth in float64."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_secure.attacks.projections import PROJECTIONS, project

SIZE, BATCH = 7, 4


def norm_of(delta, norm):
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    return np.linalg.norm(np.asarray(delta, "float64"), ord=order, axis=-1)


def bisected(delta, lower, upper, epsilon, norm):
    """The projection of one row by bisection on the multiplier of the ball."""
    delta, lower, upper = (np.asarray(part, "float64") for part in (delta, lower, upper))
    boxed = np.clip(delta, lower, upper)
    if norm_of(boxed, norm) <= epsilon:
        return boxed

    def at(multiplier):
        if norm == "l2":
            return np.clip(delta / (1 + multiplier), lower, upper)
        if norm == "l1":
            soft = np.sign(delta) * np.maximum(np.abs(delta) - multiplier, 0)
            return np.clip(soft, lower, upper)
        return np.clip(delta, np.maximum(lower, -epsilon), np.minimum(upper, epsilon))

    if norm == "linf":
        return at(0)
    if epsilon == 0:
        return np.zeros_like(delta)
    low, high = 0.0, 1.0
    while norm_of(at(high), norm) > epsilon:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if norm_of(at(middle), norm) > epsilon else (low, middle)
    return at(high)


@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.01, 0.3, 1.0, 30.0]))
    delta = rng.normal(size=(BATCH, SIZE)) * scale
    lower = -rng.random((BATCH, SIZE)) * draw(st.sampled_from([0.05, 1.0, 100.0]))
    upper = rng.random((BATCH, SIZE)) * draw(st.sampled_from([0.05, 1.0, 100.0]))
    # Ties, zeros and coordinates without room are where sorting goes wrong.
    if draw(st.booleans()):
        delta = np.round(delta, 1)
        lower, upper = np.round(lower, 1), np.round(upper, 1)
    lower[rng.random(lower.shape) < 0.2] = 0.0
    upper[rng.random(upper.shape) < 0.2] = 0.0
    epsilon = draw(st.sampled_from([0.0, 1e-3, 0.1, 0.7, 3.0, 50.0]))
    return tuple(part.astype("float32") for part in (delta, lower, upper)), epsilon


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@given(problem=problems())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_projection_is_the_nearest_point_of_ball_and_box(norm, problem):
    (delta, lower, upper), epsilon = problem
    project_rows = PROJECTIONS[norm]
    found = ops.convert_to_numpy(project_rows(delta, lower, upper, np.float32(epsilon)))
    truth = np.stack(
        [bisected(*row, epsilon, norm) for row in zip(delta, lower, upper, strict=True)]
    )
    np.testing.assert_allclose(found, truth, rtol=2e-6, atol=2e-6 * max(np.abs(delta).max(), 1e-3))
    assert (found >= lower).all()
    assert (found <= upper).all()
    assert (norm_of(found, norm) <= epsilon * (1 + 1e-6)).all()
    again = ops.convert_to_numpy(project_rows(found, lower, upper, np.float32(epsilon)))
    np.testing.assert_allclose(again, found, rtol=3e-7, atol=3e-7 * epsilon)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_bisection_agrees_with_a_general_solver(norm):
    from scipy.optimize import minimize

    rng = np.random.default_rng(1)
    delta = rng.normal(size=SIZE)
    lower, upper = -rng.random(SIZE) * 0.6, rng.random(SIZE) * 0.6
    # Split into positive and negative parts, so that the l1 ball is smooth.
    split = minimize(
        lambda z: np.sum((z[:SIZE] - z[SIZE:] - delta) ** 2),
        np.full(2 * SIZE, 1e-3),
        bounds=[(0, high) for high in upper] + [(0, -low) for low in lower],
        constraints={
            "type": "ineq",
            "fun": lambda z: (
                0.8 - z.sum() if norm == "l1" else 0.64 - np.sum((z[:SIZE] - z[SIZE:]) ** 2)
            ),
        },
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-14},
    )
    assert split.success
    truth = split.x[:SIZE] - split.x[SIZE:]
    np.testing.assert_allclose(bisected(delta, lower, upper, 0.8, norm), truth, atol=1e-5)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_many_dimensions_stay_exact(norm):
    rng = np.random.default_rng(2)
    x = rng.random((2, 32, 32, 3)).astype("float32")
    x_adv = x + rng.normal(size=x.shape).astype("float32")
    epsilon = {"l2": 5.0, "l1": 100.0}[norm]
    found = ops.convert_to_numpy(project(x_adv, ops.convert_to_tensor(x), epsilon, norm, (0, 1)))
    delta = (found.astype("float64") - x).reshape(2, -1)
    truth = np.stack(
        [
            bisected(moved.ravel() - row.ravel(), -row.ravel(), 1 - row.ravel(), epsilon, norm)
            for moved, row in zip(x_adv.astype("float64"), x.astype("float64"), strict=True)
        ]
    )
    np.testing.assert_allclose(delta, truth, atol=3e-6)
    np.testing.assert_allclose(norm_of(delta, norm), epsilon, rtol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_one_row_never_moves_another(norm):
    rng = np.random.default_rng(3)
    x = rng.random((3, 8)).astype("float32")
    x_adv = x + rng.normal(size=x.shape).astype("float32")
    poisoned = x_adv.copy()
    poisoned[1] = np.nan
    args = (ops.convert_to_tensor(x), 0.8, norm, (0.0, 1.0))
    clean = ops.convert_to_numpy(project(x_adv, *args))
    dirty = ops.convert_to_numpy(project(poisoned, *args))
    np.testing.assert_array_equal(clean[[0, 2]], dirty[[0, 2]])


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_an_input_outside_the_box_is_not_moved_further_out(norm):
    x = np.array([[1.2, -0.1, 0.5]], "float32")
    x_adv = x + np.array([[0.3, -0.3, 0.1]], "float32")
    found = ops.convert_to_numpy(project(x_adv, ops.convert_to_tensor(x), 0.4, norm, (0.0, 1.0)))
    np.testing.assert_array_equal(found[0, :2], x[0, :2])
    assert found[0, 2] > x[0, 2]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_projection_keeps_its_dtype_and_works_compiled(norm, dtype):
    from keras_secure import backend

    rng = np.random.default_rng(4)
    x = ops.convert_to_tensor(rng.random((2, 5)).astype(dtype))
    x_adv = ops.convert_to_tensor(rng.random((2, 5)).astype(dtype))
    plain = project(x_adv, x, 0.1, norm, (0.0, 1.0))
    assert keras.backend.standardize_dtype(plain.dtype) == dtype
    jitted = backend.compiled(lambda a, b: project(a, b, 0.1, norm, (0.0, 1.0)), jit_compile=True)
    np.testing.assert_allclose(jitted(x_adv, x), plain, rtol=1e-5, atol=1e-7)
