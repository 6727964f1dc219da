"""Convolutions whose gradient by the inputs is fast on a processor."""

import functools

import numpy as np
import tensorflow as tf

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
    """The gradient by the inputs: the pixels of each block of them as channels of one convolution.

    A pixel hears of every output whose window covers it. Seen from a block of pixels these
    outputs stand in one window of the gradient, so that a convolution of the gradient gives all
    pixels of the block at once, and `depth_to_space` puts them where they belong.
    """
    taps, channels, filters = kernel.shape[:2], kernel.shape[2], kernel.shape[3]
    widen = _widening(strides, channels)
    blocks = [widen * stride for stride in strides]
    places, pads = [], [(0, 0)]
    for axis in range(2):
        place, before, after = _windows(
            space[axis], gradient.shape[1 + axis], taps[axis], strides[axis], widen, padding
        )
        places.append(place)
        pads.append((before, max(after, 0)))
        if after < 0:
            # The last outputs lie beyond the last block's window only where no pixel hears them.
            keep = [slice(None)] * 4
            keep[1 + axis] = slice(None, gradient.shape[1 + axis] + after)
            gradient = gradient[tuple(keep)]
    # Taps outside the kernel read a row of zeros behind it.
    rows = tf.pad(tf.reshape(kernel, [-1, channels * filters]), [(0, 1), (0, 0)])
    chosen = _pairs(*places, tuple(taps))
    wide = tf.reshape(tf.gather(rows, chosen), [*chosen.shape, channels, filters])
    wide = tf.transpose(wide, [0, 1, 5, 2, 3, 4])
    wide = tf.reshape(wide, [*chosen.shape[:2], filters, blocks[0] * blocks[1] * channels])
    found = tf.nn.conv2d(gradient, wide, widen, [*pads, (0, 0)])
    if blocks[0] > 1:
        found = tf.nn.depth_to_space(found, blocks[0])
    return found[:, : space[0], : space[1]]


def _widening(strides, channels):
    """How many strides a block is long, so that its pixels fill the lanes."""
    widen = 1
    while (2 * widen * strides[0]) ** 2 * channels <= _LANES:
        widen *= 2
    return widen


def _windows(size, outputs, taps, stride, widen, padding):
    """Along one axis: which tap joins each place of a window to each pixel of a block.

    Returns (array (window, block), pads of the gradient before and after); -1 where none does.
    """
    before = max((outputs - 1) * stride + taps - size, 0) // 2 if padding == "same" else 0
    block = widen * stride
    # Output o reaches pixel i by the tap i + before - stride * o.
    first = -((taps - 1 - before) // stride)
    last = (block - 1 + before) // stride
    place = np.arange(block) + before - stride * np.arange(first, last + 1)[:, None]
    place = np.where((place >= 0) & (place < taps), place, -1)
    after = widen * (-(-size // block) - 1) + last + 1 - outputs
    return tuple(map(tuple, place.tolist())), -first, after


@functools.cache
def _pairs(rows, columns, taps):
    """Number of the tap for every pair of places, one beyond the last where there is none."""
    rows, columns = np.array(rows), np.array(columns)
    pairs = rows[:, None, :, None] * taps[1] + columns[None, :, None, :]
    none = (rows[:, None, :, None] < 0) | (columns[None, :, None, :] < 0)
    return np.where(none, taps[0] * taps[1], pairs).astype("int32")
