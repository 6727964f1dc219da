"""What the Square attack puts into its windows in l2 and l1: a pair of pyramids, up and down."""

import numpy as np
from keras import ops

from keras_secure.attacks.square_windows import window_masks

POWERS = {"l2": 2, "l1": 4}
"""How fast a pyramid falls off from its middle: its steps are 1 / k**power high."""


def pattern(height, width, norm, along_width):
    """Two pyramids side by side, one up and one down, of norm one together.

    Args:
        height: Of the pattern.
        width: Of the pattern.
        norm: `"l2"` or `"l1"`.
        along_width: Whether the second pyramid is beside the first, rather than below it.

    Returns:
        A float64 array of shape (height, width).

    Example:

    >>> pattern(2, 1, "l1", False).ravel()
    array([ 0.5, -0.5])

    Reference:
        Andriushchenko et al. 2020, arXiv 1912.00049, equation 2 and supplement A.2.
    """
    if along_width:
        return pattern(width, height, norm, False).T
    sums, half = step_sums(max(height, width), norm), height // 2
    pyramids = [_pyramid(half, width, sums), -_pyramid(height - half, width, sums)]
    norms = half_norms(height, width, norm)[0]
    return np.concatenate([part / size for part, size in zip(pyramids, norms, strict=True)])


def half_norms(height, width, norm):
    """The norms of both pyramids of a pattern before they are scaled.

    Args:
        height: Of the pattern.
        width: Of the pattern.
        norm: `"l2"` or `"l1"`.

    Returns:
        A float64 array of shape (2, 2): for the second pyramid below the first and beside it, what
        the first and the second are divided by.
    """
    sums = step_sums(max(height, width), norm)
    result = []
    for length, across in ((height, width), (width, height)):
        half = length // 2
        order = 2 if norm == "l2" else 1
        sizes = [
            np.linalg.norm(_pyramid(part, across, sums).ravel(), order)
            for part in (half, length - half)
        ]
        # One that stands alone has the whole norm for itself.
        shared = 1.0 if half == 0 else 2.0 ** (1 / order)
        result.append([shared * size if size > 0 else 1.0 for size in sizes])
    return np.asarray(result)


def step_sums(longest, norm):
    """Heights of the first 0, 1, ... steps of a pyramid together, float64."""
    count = longest // 2 + 2
    return np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1.0, count) ** POWERS[norm])])


def _pyramid(height, width, sums):
    rows = np.abs(np.arange(height) - height // 2)[:, None]
    columns = np.abs(np.arange(width) - width // 2)[None]
    return sums[max(height // 2, width // 2) + 1] - sums[np.maximum(rows, columns)]


def exchange_windows(x, best, uniforms, size, norms, epsilon, bounds, norm):
    """Moves the perturbation of two windows into one of them, with a pattern added (l2 and l1).

    In every channel the first window gets what both had, and its part of what the ball has left.

    Args:
        x: Tensor of shape (batch, height, width * channels), the inputs.
        best: Tensor like `x`: the candidates so far.
        uniforms: Tensor of shape (batch, 5 + channels) with values in [0, 1).
        size: Int32 tensor (height, width) of the windows.
        norms: Tensor of shape (2, 2): `half_norms` of the windows.
        epsilon: Scalar tensor of the dtype of `x`.
        bounds: Tensor (lowest, highest) of the dtype of `x`.
        norm: `"l2"` or `"l1"`.

    Returns:
        A tensor like `x`: the next candidates, inside ball and box.

    Reference:
        Andriushchenko et al. 2020, arXiv 1912.00049, algorithm 3; in l1 as the norm demands.
    """
    channels = uniforms.shape[1] - 5
    height, width = x.shape[1], x.shape[2] // channels
    uniforms = ops.cast(uniforms, x.dtype)
    shape = (height, width, channels)
    (row, rows), (column, columns) = window_masks(uniforms[:, :2], size, *shape)
    (_, other_rows), (_, other_columns) = window_masks(uniforms[:, 2:4], size, *shape)
    target = ops.logical_and(rows[:, :, None], columns[:, None, :])
    source = ops.logical_and(other_rows[:, :, None], other_columns[:, None, :])

    measure, root = (ops.square, ops.sqrt) if norm == "l2" else (ops.absolute, lambda sums: sums)

    def by_channel(values):
        sums = ops.reshape(ops.sum(values, axis=1), (-1, width, channels))
        return ops.sum(sums, axis=1)

    def spread(values):
        return ops.tile(values, (1, width))[:, None, :]

    delta = best - x
    energy = measure(delta)
    held = by_channel(ops.where(target, energy, 0.0))
    freed = by_channel(ops.where(ops.logical_or(target, source), energy, 0.0))
    unused = measure(epsilon) - ops.sum(energy, axis=(1, 2))
    available = root(freed + ops.maximum(unused, 0.0)[:, None] / channels)

    signs = ops.cast(ops.where(uniforms[:, 5:] < 0.5, -1.0, 1.0), x.dtype)
    sums = ops.convert_to_tensor(step_sums(max(height, width), norm), x.dtype)
    beside = ops.logical_and(size[1] > 1, ops.logical_or(uniforms[:, 4] < 0.5, size[0] < 2))
    drawn = _drawn_pattern(row, column, size, beside, norms, sums)
    mixed = spread(signs) * drawn + delta / spread(_positive(root(held)))
    mixed = ops.where(target, mixed, 0.0)
    length = root(by_channel(measure(mixed)))
    mixed = mixed * spread(available / _positive(length))
    moved = ops.where(target, mixed, ops.where(source, 0.0, delta))
    return ops.clip(x + moved, bounds[0], bounds[1])


def _drawn_pattern(row, column, size, beside, norms, sums):
    """`pattern` at the place of each example's window; arbitrary outside."""

    def along(offset, split, length, across, scales):
        half = ops.cast(split, "int32") * (length // 2)
        second = offset >= half
        extent = ops.where(second, length - half, half)
        middle = ops.where(second, half, 0) + extent // 2
        distance = ops.minimum(ops.absolute(offset - middle), sums.shape[0] - 1)
        top = ops.take(sums, ops.maximum(extent // 2, across // 2) + 1)
        weight = ops.where(second, -1.0 / scales[1], 1.0 / scales[0])
        return (
            ops.take(sums, distance),
            ops.where(split, top, 0.0),
            ops.where(split, weight, 1.0),
        )

    beside = beside[:, None]
    down, top, weight = along(row, ops.logical_not(beside), size[0], size[1], norms[0])
    right, other_top, other_weight = along(column, beside, size[1], size[0], norms[1])
    highest = ops.maximum(top[:, :, None], other_top[:, None, :])
    # The sums rise, so the largest of two of them is the sum of the larger distance.
    fallen = ops.maximum(down[:, :, None], right[:, None, :])
    return weight[:, :, None] * other_weight[:, None, :] * (highest - fallen)


def _positive(values):
    return ops.where(values > 0, values, ops.ones_like(values))
