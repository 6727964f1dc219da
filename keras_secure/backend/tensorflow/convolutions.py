"""Convolutions whose gradient by the inputs is fast on a processor."""

import itertools
import math

import numpy as np
import tensorflow as tf

from keras_secure.backend.tensorflow.graph import fused

# Filters that fill one vector register. TensorFlow's own kernel has a filter for every channel of
# the inputs, and leaves most of the register empty where these are few.
_LANES = 16


def convolution_by_inputs(inputs, kernel, strides, padding):
    """See `contract.Backend.convolution_by_inputs`."""
    space = inputs.shape[1:3].as_list()
    kernel = tf.convert_to_tensor(kernel)

    @tf.custom_gradient
    def convolve(inputs):
        outputs = tf.nn.conv2d(inputs, kernel, strides, padding.upper())
        return outputs, lambda gradient: _pulled_back(gradient, kernel, space, strides, padding)

    return convolve(inputs)


def _pulled_back(gradient, kernel, space, strides, padding):
    """The gradient by the inputs, in whichever of two forms moves fewer values."""
    stride, taps = strides[0], kernel.shape[:2]
    channels, filters = kernel.shape[2:]
    padded = [
        max((outputs - 1) * stride + tap - size, 0) // 2 if padding == "same" else 0
        for outputs, tap, size in zip(gradient.shape[1:3], taps, space, strict=True)
    ]
    # Each output's part in the pixels that it saw, as the form below that spreads it has them.
    parts = math.prod(-(-tap // stride) * stride for tap in taps) * channels
    form = _spread if parts <= max(filters, _LANES) else _gathered
    return form(gradient, kernel, space, stride, padded)


def _spread(gradient, kernel, space, stride, padded):
    """Every output sends its pixels their parts, by one product of matrices; these are summed."""
    columns = tf.reshape(kernel, [-1, kernel.shape[3]])
    parts = tf.tensordot(gradient, columns, [[3], [1]])
    cut = [(skipped, skipped + size) for skipped, size in zip(padded, space, strict=True)]
    return fused(_summed)(parts, *kernel.shape[:3], stride, *cut)


def _summed(parts, rows, columns, channels, stride, *cut):
    """Sums the parts of each pixel.

    Args:
        parts: Tensor (batch, *outputs, rows * columns * channels).
        rows: Taps along the first axis.
        columns: Taps along the second.
        channels: Channels of the inputs.
        stride: Pixels from one output to the next.
        cut: (first, end) of what is returned along each axis, counted from the first window.
    """
    taps = (rows, columns)
    parts = tf.reshape(parts, [-1, *parts.shape[1:3], *taps, channels])
    reach = [-(-tap // stride) for tap in taps]
    short = [(0, count * stride - tap) for count, tap in zip(reach, taps, strict=True)]
    parts = tf.pad(parts, [(0, 0)] * 3 + short + [(0, 0)])
    shifted = []
    for row, column in itertools.product(*map(range, reach)):
        part = parts[:, :, :, row * stride : (row + 1) * stride]
        part = part[:, :, :, :, column * stride : (column + 1) * stride]
        shifts = [(row, reach[0] - 1 - row), (column, reach[1] - 1 - column)]
        shifted.append(tf.pad(part, [(0, 0), *shifts] + [(0, 0)] * 3))
    total = tf.add_n(shifted)
    sizes = [size * stride for size in total.shape[1:3]]
    total = tf.reshape(tf.transpose(total, [0, 1, 3, 2, 4, 5]), [-1, *sizes, channels])
    # Where strides jump over the last pixels, no output saw them.
    unseen = [(0, max(end - size, 0)) for (_, end), size in zip(cut, sizes, strict=True)]
    total = tf.pad(total, [(0, 0), *unseen, (0, 0)])
    return total[:, slice(*cut[0]), slice(*cut[1])]


def _gathered(gradient, kernel, space, stride, padded):
    """Every block of pixels gathers what it hears of: they are channels of one convolution.

    Blocks are counted from where the first window starts, padding included: seen from there the
    outputs that a block hears of stand in the smallest window, and no tap is wasted if the stride
    divides the kernel.
    """
    taps, channels = kernel.shape[:2], kernel.shape[2]
    widen = _widening(stride, channels)
    block = widen * stride
    places, pads, cut = [], [(0, 0)], []
    for axis in range(2):
        outputs = gradient.shape[1 + axis]
        first, skipped = divmod(padded[axis], block)
        blocks = -(-(skipped + space[axis]) // block)
        # Pixel p of the block at output o hears of output o + i by the tap p - stride * i.
        before = (taps[axis] - 1) // stride
        place = np.arange(block) - stride * np.arange(-before, widen)[:, None]
        place = np.where((place >= 0) & (place < taps[axis]), place, -1)
        places.append(tuple(map(tuple, place.tolist())))
        after = (first + blocks) * widen - outputs
        if after < 0:
            # The last outputs lie beyond the last block's window only where no pixel hears them.
            gradient = gradient[(slice(None),) * (1 + axis) + (slice(None, after),)]
        pads.append((before - first * widen, max(after, 0)))
        cut.append((skipped, skipped + space[axis]))
    wide = fused(_widened)(kernel, *places)
    found = tf.nn.conv2d(gradient, wide, widen, [*pads, (0, 0)])
    return fused(_unfolded)(found, block, *cut)


def _widening(stride, channels):
    """How many strides a block is long, so that its pixels fill the lanes."""
    widen = 1
    while (2 * widen * stride) ** 2 * channels <= _LANES:
        widen *= 2
    return widen


def _widened(kernel, rows, columns):
    """The kernel of the wide convolution: window rows, columns, filters, pixels by channels.

    Args:
        kernel: Tensor (rows, columns, channels, filters).
        rows: Which tap joins each place of a window to each pixel of a block; -1 where none does.
        columns: The same along the other axis.
    """
    taps, channels, filters = kernel.shape[:2], kernel.shape[2], kernel.shape[3]
    rows, columns = np.array(rows)[:, None, :, None], np.array(columns)[None, :, None, :]
    # Taps outside the kernel read a row of zeros behind it.
    none = (rows < 0) | (columns < 0)
    chosen = np.where(none, taps[0] * taps[1], rows * taps[1] + columns)
    flat = tf.pad(tf.reshape(kernel, [-1, channels * filters]), [(0, 1), (0, 0)])
    wide = tf.reshape(tf.gather(flat, chosen), [*chosen.shape, channels, filters])
    wide = tf.transpose(wide, [0, 1, 5, 2, 3, 4])
    return tf.reshape(wide, [*chosen.shape[:2], filters, -1])


def _unfolded(found, block, rows, columns):
    """Puts the pixels of each block where they belong, and cuts the padding off."""
    if block > 1:
        found = tf.nn.depth_to_space(found, block)
    return found[:, slice(*rows), slice(*columns)]
