"""Which weights stay: the largest of a kernel, or of every few of its input channels."""

from typing import Any

import numpy as np
from keras import ops


def magnitude_mask(weights: Any, sparsity: Any) -> Any:
    """Keeps the weights of largest magnitude; traceable.

    Args:
        weights: Tensor of any shape.
        sparsity: Share to prune, in [0, 1); a number or scalar tensor.

    Returns:
        Boolean tensor of the weights' shape. Exactly `round(size * (1 - sparsity))` values, and one
        at least, are true, also where magnitudes are equal.

    Example:

    >>> magnitude_mask(ops.convert_to_tensor([0.5, 0.0, -2.0, 0.0]), 0.5).numpy().tolist()
    [True, False, True, False]
    """
    flat = ops.reshape(ops.abs(weights), (-1,))
    size = int(np.prod(weights.shape))
    kept = ops.round(size * (1.0 - ops.cast(sparsity, "float64")))
    kept = ops.maximum(ops.cast(kept, "int32"), 1)
    # A rank for each value, and not a threshold, which equal magnitudes would all pass or fail.
    return ops.reshape(_ranks(flat) < kept, weights.shape)


def block_mask(weights: Any, kept: int, block: int, axis: int) -> Any:
    """Keeps the `kept` weights of largest magnitude in each `block` along an axis; traceable.

    Args:
        weights: Tensor.
        kept: How many of a block stay.
        block: Length of a block. Where the axis is no multiple of it, the last block is shorter and
            keeps as many, if it has them.
        axis: Axis of the input channels, which products are summed over.

    Returns:
        Boolean tensor of the weights' shape.

    Example:

    >>> row = ops.convert_to_tensor([[1.0, -4.0, 3.0, 2.0, 9.0, 8.0]])
    >>> block_mask(row, 2, 4, axis=1).numpy().tolist()
    [[False, True, True, False, True, True]]
    """
    size = weights.shape[axis]
    rows = ops.moveaxis(ops.abs(weights), axis, -1)
    missing = -size % block
    if missing:
        # Below every magnitude, so that padding is never kept in place of a weight.
        padding = [(0, 0)] * (len(rows.shape) - 1) + [(0, missing)]
        rows = ops.pad(rows, padding, constant_values=-1.0)
    shape = rows.shape
    blocks = ops.reshape(rows, (-1, block))
    mask = ops.reshape(_ranks(blocks) < kept, shape)[..., :size]
    return ops.moveaxis(mask, -1, axis)


def follows_blocks(weights: np.ndarray, kept: int, block: int, axis: int) -> bool:
    """Whether at most `kept` values of each `block` along an axis differ from 0.

    Args:
        weights: Array.
        kept: How many of a block may stay.
        block: Length of a block.
        axis: Axis along which blocks lie.

    Returns:
        True or False.
    """
    rows = np.moveaxis(np.asarray(weights) != 0, axis, -1)
    counts = np.add.reduceat(rows.astype(int), range(0, rows.shape[-1], block), axis=-1)
    return bool((counts <= kept).all())


def _ranks(magnitudes: Any) -> Any:
    """Each value's place, from 0, among those of its last axis from the largest down."""
    return ops.argsort(ops.argsort(-magnitudes, axis=-1), axis=-1)
