"""Where and how large the windows of the Square attack are, and what is put into them.

All examples of a batch have windows of one size, each at a place of its own. An image is held as
(height, width * channels), so that every pass over it runs along long rows, and a window is a mask
of rows and a mask of columns: nothing is gathered or scattered.
"""

import math

import numpy as np
from keras import ops

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of 10,000, after which the share of the image that a window covers is halved."""


def image_shape(shape):
    """How an input is seen as an image, (height, width, channels).

    Args:
        shape: Shape of one input. (size,) is a row of `size` pixels, (length, channels) one of
            `length`; (..., height, width, channels) has its leading axes put one below the other.

    Returns:
        Three integers.

    Example:

    >>> image_shape((28, 28, 3)), image_shape((30, 2)), image_shape((20,))
    ((28, 28, 3), (1, 30, 2), (1, 20, 1))
    """
    if len(shape) == 1:
        return 1, shape[0], 1
    return math.prod(shape[:-2]), shape[-2], shape[-1]


def first_queries(queries):
    """The number of the first query, from 0, after each halving.

    Args:
        queries: How many there are in all; the schedule is stretched to them.

    Returns:
        A tuple of integers, as long as `HALVINGS`.

    Example:

    >>> first_queries(5000)[:3]
    (6, 26, 101)

    Reference:
        Andriushchenko et al. 2020, arXiv 1912.00049, section 4.1 and supplement B.
    """
    return tuple(-(-(halving + 1) * queries // 10_000) for halving in HALVINGS)


def window_sizes(share, height, width, norm):
    """Height and width of the windows after 0, 1, ... halvings.

    Windows are square where the image has room for it; otherwise they are as long as covers the
    same share.

    Args:
        share: Share of the image that the first windows cover, in (0, 1].
        height: Of the image.
        width: Of the image.
        norm: `"linf"`, `"l2"` or `"l1"`; the patterns of the last two need a middle, so that sides
            are odd and at least 3 where the image has room.

    Returns:
        An int32 array of shape (len(HALVINGS) + 1, 2).

    Example:

    >>> window_sizes(0.8, 28, 28, "linf")[:3].tolist()
    [[25, 25], [18, 18], [13, 13]]
    """
    shorter, longer = min(height, width), max(height, width)
    sizes = []
    for halving in range(len(HALVINGS) + 1):
        area = share / 2**halving * height * width
        side = max(round(math.sqrt(area)), 1)
        if norm != "linf":
            side = max(side, 3)
            side += 1 - side % 2
        if side <= shorter:
            sizes.append((side, side))
            continue
        length = min(max(round(area / shorter), 1 if norm == "linf" else 3), longer)
        sizes.append((shorter, length) if height <= width else (length, shorter))
    return np.asarray(sizes, "int32")


def window_masks(corner, size, height, width, channels):
    """The rows and columns of one window for each example, and where they lie in it.

    Args:
        corner: Tensor of shape (batch, 2) with values in [0, 1): where the window begins, as a
            share of the places that it can begin at.
        size: Int32 tensor (height, width) of the windows.
        height: Of the image.
        width: Of the image.
        channels: Of the image.

    Returns:
        ((rows, row_masks), (columns, column_masks)): int32 offsets from the corner and booleans,
        of shapes (batch, height) and (batch, width * channels).

    Example:

    >>> corner, size = ops.convert_to_tensor([[0.0, 0.9]]), ops.convert_to_tensor([1, 2])
    >>> (_, rows), (_, columns) = window_masks(corner, size, 2, 3, 1)
    >>> print(ops.convert_to_numpy(rows), ops.convert_to_numpy(columns))
    [[ True False]] [[False  True  True]]
    """

    def along(share, places, length):
        free = ops.maximum(ops.convert_to_tensor(np.max(places) + 1, "int32") - length, 0)
        # A share just below one may round up to one place too many.
        begin = ops.cast(share * ops.cast(free + 1, share.dtype), "int32")
        offsets = places - ops.minimum(begin, free)[:, None]
        return offsets, ops.logical_and(offsets >= 0, offsets < length)

    rows = np.arange(height, dtype="int32")[None]
    columns = np.repeat(np.arange(width, dtype="int32"), channels)[None]
    return along(corner[:, 0], rows, size[0]), along(corner[:, 1], columns, size[1])


def fill_windows(x, best, uniforms, size, epsilon, bounds):
    """Puts +-epsilon, one sign a channel, into a window of each example (linf).

    Where the window holds just that already, all its signs are turned, so that no query is spent
    on what is known.

    Args:
        x: Tensor of shape (batch, height, width * channels), the inputs.
        best: Tensor like `x`: the candidates so far.
        uniforms: Tensor of shape (batch, 2 + channels) with values in [0, 1).
        size: Int32 tensor (height, width) of the windows.
        epsilon: Scalar tensor of the dtype of `x`.
        bounds: Tensor (lowest, highest) of the dtype of `x`.

    Returns:
        A tensor like `x`: the next candidates.

    Example:

    >>> x, uniforms = ops.full((1, 1, 2), 0.5), ops.convert_to_tensor([[0.0, 0.7, 0.9]])
    >>> size, bounds = ops.convert_to_tensor([1, 1]), ops.convert_to_tensor([0.0, 1.0])
    >>> print(ops.convert_to_numpy(fill_windows(x, x, uniforms, size, 0.25, bounds)))
    [[[0.5  0.75]]]

    Reference:
        Andriushchenko et al. 2020, arXiv 1912.00049, algorithm 2.
    """
    channels = uniforms.shape[1] - 2
    height, width = x.shape[1], x.shape[2] // channels
    (_, rows), (_, columns) = window_masks(uniforms[:, :2], size, height, width, channels)
    inside = ops.logical_and(rows[:, :, None], columns[:, None, :])
    signs = ops.where(uniforms[:, 2:] < 0.5, -1.0, 1.0)
    offset = epsilon * ops.cast(ops.tile(signs, (1, width)), x.dtype)[:, None, :]
    filled = ops.clip(x + offset, bounds[0], bounds[1])
    known = ops.all(ops.logical_or(filled == best, ops.logical_not(inside)), axis=(1, 2))
    turned = ops.where(known[:, None, None], -offset, offset)
    return ops.where(inside, ops.clip(x + turned, bounds[0], bounds[1]), best)
