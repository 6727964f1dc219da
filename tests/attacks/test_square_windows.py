"""Windows and patterns of the Square attack, against plain loops."""

import numpy as np
import pytest
from keras import ops

from keras_secure import backend
from keras_secure.attacks.square_patterns import exchange_windows, half_norms, pattern
from keras_secure.attacks.square_windows import (
    HALVINGS,
    fill_windows,
    first_queries,
    image_shape,
    window_masks,
    window_sizes,
)


def share_of_the_paper(query, queries, p_init):
    """The schedule as section 4.1 and the authors' programs state it, for 10,000 queries."""
    stretched = int(query / queries * 10_000)
    for limit, divisor in zip(
        (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000), range(9), strict=True
    ):
        if stretched <= limit:
            return p_init / 2**divisor
    return p_init / 512


@pytest.mark.parametrize("queries", [10_000, 5_000, 1_000, 137, 20_000, 1])
def test_the_schedule_is_that_of_the_paper(queries):
    first = np.asarray(first_queries(queries))
    for query in range(queries):
        halvings = int((query >= first).sum())
        assert 0.8 / 2**halvings == share_of_the_paper(query, queries, 0.8), query


def test_windows_are_as_large_as_the_share_says():
    for halving, (height, width) in enumerate(window_sizes(0.8, 32, 32, "linf")):
        assert height == width == max(round((0.8 / 2**halving * 32 * 32) ** 0.5), 1)
    for height, width, norm in ((8, 12, "linf"), (1, 20, "linf"), (1, 30, "l2"), (12, 8, "l1")):
        sizes = window_sizes(0.8, height, width, norm)
        assert sizes.shape == (len(HALVINGS) + 1, 2)
        assert (sizes >= 1).all()
        assert (sizes <= [height, width]).all()
        assert (np.diff(sizes.prod(axis=1)) <= 0).all()
        share = sizes[0].prod() / (height * width)
        assert 0.7 < share < 0.9, "where a square has no room, the window is longer instead"
    # A pattern needs a middle.
    assert (window_sizes(0.8, 28, 28, "l2") % 2 == 1).all()
    assert window_sizes(0.8, 28, 28, "l2").min() == 3


def test_what_is_an_image():
    assert image_shape((7,)) == (1, 7, 1)
    assert image_shape((30, 2)) == (1, 30, 2)
    assert image_shape((8, 12, 3)) == (8, 12, 3)
    assert image_shape((4, 8, 12, 3)) == (32, 12, 3)


def test_every_place_is_as_likely_as_any_other():
    shares = (np.arange(6000) + 0.5) / 6000
    corner = np.stack([shares, shares[::-1]], axis=1).astype("float32")
    (rows, row_mask), (_, column_mask) = window_masks(corner, np.array([3, 2], "int32"), 8, 4, 2)
    first = ops.convert_to_numpy(row_mask).argmax(axis=1)
    np.testing.assert_array_equal(np.bincount(first), np.full(6, 1000))
    first = ops.convert_to_numpy(column_mask).argmax(axis=1)
    np.testing.assert_array_equal(np.bincount(first)[::2], np.full(3, 2000))
    assert (ops.convert_to_numpy(row_mask).sum(axis=1) == 3).all()
    assert (ops.convert_to_numpy(column_mask).sum(axis=1) == 2 * 2).all()
    assert (ops.convert_to_numpy(rows)[np.arange(6000), first * 0] <= 0).all()
    # The largest number below one must not lead outside.
    edge = np.full((1, 2), 1 - 2.0**-24, "float32")
    (_, row_mask), _ = window_masks(edge, np.array([1, 1], "int32"), 28, 28, 1)
    assert ops.convert_to_numpy(row_mask)[0, 27]


def corners(uniforms, size, height, width):
    return int(uniforms[0] * (height - size[0] + 1)), int(uniforms[1] * (width - size[1] + 1))


def images(channels, height=6, width=5, batch=5):
    rng = np.random.default_rng(channels)
    x = rng.random((batch, height, width, channels))
    x[rng.random(x.shape) < 0.2] = 0.0
    delta = rng.choice([-0.1, 0.1], x.shape)
    return rng, x, np.clip(x + delta, 0, 1)


def in_rows(x):
    return ops.convert_to_tensor(x.reshape(*x.shape[:2], -1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (6, 5), (0, 0)])
def test_filled_windows(channels, size):
    rng, x, best = images(channels)
    uniforms = rng.random((5, 2 + channels)).astype("float32")
    expected = best.copy()
    for i in range(5):
        top, left = corners(uniforms[i], size, 6, 5)
        window = np.s_[i, top : top + size[0], left : left + size[1]]
        offset = np.where(uniforms[i, 2:] < 0.5, -0.1, 0.1)
        if np.array_equal(np.clip(x[window] + offset, 0, 1), best[window]):
            offset = -offset
        expected[window] = np.clip(x[window] + offset, 0, 1)
    # Compiling takes longer than all the rest, so one size stands for it.
    kernel = backend.fused(fill_windows) if size == (3, 2) else fill_windows
    args = np.array(size, "int32"), ops.convert_to_tensor(0.1, "float64"), np.array([0.0, 1.0])
    found = ops.convert_to_numpy(kernel(in_rows(x), in_rows(best), uniforms, *args))
    np.testing.assert_array_equal(found.reshape(x.shape), expected)
    if size == (1, 1) and channels == 1:
        changed = (expected != best).reshape(5, -1).any(axis=1)
        stuck = [np.clip(x[i] - 0.1, 0, 1) == np.clip(x[i] + 0.1, 0, 1) for i in range(5)]
        assert (changed | np.array([rows.any() for rows in stuck])).all(), "a query was wasted"


def pyramid(height, width, power):
    """Equation 2 of the paper, as nested sums."""
    middle_row, middle_column = height // 2, width // 2
    steps = max(middle_row, middle_column) + 1
    result = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            away = max(abs(row - middle_row), abs(column - middle_column))
            result[row, column] = sum(1 / k**power for k in range(away + 1, steps + 1))
    return result


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("size", [(3, 3), (7, 7), (5, 4), (1, 9), (2, 1), (1, 1)])
def test_a_pattern_is_two_pyramids_of_norm_one(norm, size):
    order, power = (2, 2) if norm == "l2" else (1, 4)
    for beside in (False, True):
        height, width = size[::-1] if beside else size
        half = height // 2
        parts = [pyramid(half, width, power), pyramid(height - half, width, power)]
        norms = [np.linalg.norm(part.ravel(), order) or 1.0 for part in parts]
        truth = np.concatenate([parts[0] / norms[0], -parts[1] / norms[1]])
        truth /= np.linalg.norm(truth.ravel(), order)
        found = pattern(*size, norm, beside)
        np.testing.assert_allclose(found, truth.T if beside else truth, atol=1e-12)


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(3, 3), (6, 5), (1, 4), (3, 1)])
def test_exchanged_windows(norm, channels, size):
    """Algorithm 3 of the paper, example by example and channel by channel."""
    rng, x, best = images(channels)
    order, p = (2, 2) if norm == "l2" else (1, 1)
    best = x + (best - x) / 2
    epsilon = 1.1 * np.linalg.norm((best - x).reshape(5, -1), order, axis=1).max()
    uniforms = rng.random((5, 5 + channels)).astype("float32")
    expected = np.zeros_like(x)
    for i in range(5):
        delta = best[i] - x[i]
        unused = max(epsilon**p - (np.abs(delta) ** p).sum(), 0)
        first, second = np.zeros((6, 5), bool), np.zeros((6, 5), bool)
        for mask, numbers in ((first, uniforms[i, :2]), (second, uniforms[i, 2:4])):
            top, left = corners(numbers, size, 6, 5)
            mask[top : top + size[0], left : left + size[1]] = True
        beside = size[1] > 1 and (uniforms[i, 4] < 0.5 or size[0] < 2)
        drawn = np.zeros((6, 5))
        drawn[first] = pattern(*size, norm, beside).ravel()
        after = delta.copy()
        for c in range(channels):
            old = delta[:, :, c]
            size_old = np.linalg.norm(old[first], order)
            mixed = (-1 if uniforms[i, 5 + c] < 0.5 else 1) * drawn + old / (size_old or 1.0)
            free = (np.abs(old[first | second]) ** p).sum() + unused / channels
            after[second, c] = 0.0
            after[first, c] = mixed[first] / np.linalg.norm(mixed[first], order) * free ** (1 / p)
        np.testing.assert_allclose(
            np.linalg.norm(after.ravel(), order), epsilon, rtol=1e-9, err_msg="not all is spent"
        )
        expected[i] = np.clip(x[i] + after, 0, 1)
    kernel = backend.fused(exchange_windows) if size == (3, 3) else exchange_windows
    found = kernel(
        in_rows(x),
        in_rows(best),
        uniforms,
        np.array(size, "int32"),
        half_norms(*size, norm),
        ops.convert_to_tensor(epsilon, "float64"),
        np.array([0.0, 1.0]),
        norm,
    )
    np.testing.assert_allclose(ops.convert_to_numpy(found).reshape(x.shape), expected, atol=1e-9)
