"""Sliding windows of an input, as a convolution sees them."""

import itertools
import math

import tensorflow as tf


def extract_windows(inputs, window, strides, dilations, padding):
    """See `contract.Backend.extract_windows`."""
    rank = len(window)
    pads, counts = [], []
    for size, taps, stride, dilation in zip(
        inputs.shape[1:-1], window, strides, dilations, strict=True
    ):
        span = (taps - 1) * dilation + 1
        before = after = 0
        if padding == "same":
            missing = max((-(-size // stride) - 1) * stride + span - size, 0)
            before, after = missing // 2, missing - missing // 2
        elif padding == "causal":
            before = span - 1
        counts.append((size + before + after - span) // stride + 1)
        # Up to a multiple of the stride, so that the axis splits into phases.
        pads.append((before, after + -(size + before + after) % stride))
    padded = tf.pad(inputs, [(0, 0), *pads, (0, 0)])
    batch, channels = tf.shape(inputs)[0], inputs.shape[-1]
    split = [batch]
    for size, stride in zip(padded.shape[1:-1], strides, strict=True):
        split += [size // stride, stride]
    phases = tf.reshape(padded, [*split, channels])
    # Batch, phases, channels, space: every tap is then a slice of unit stride with long rows, which
    # is 1.2 to 8 times faster on CPU than TensorFlow's patch kernel.
    phases = tf.transpose(
        phases, [0, *range(2, 2 * rank + 1, 2), 2 * rank + 1, *range(1, 2 * rank, 2)]
    )
    taken = []
    for offsets in itertools.product(*[range(taps) for taps in window]):
        places = [offset * dilation for offset, dilation in zip(offsets, dilations, strict=True)]
        phase = [place % stride for place, stride in zip(places, strides, strict=True)]
        space = [
            slice(place // stride, place // stride + count)
            for place, stride, count in zip(places, strides, counts, strict=True)
        ]
        taken.append(phases[(slice(None), *phase, slice(None), *space)])
    shape = [batch, math.prod(window) * channels, math.prod(counts)]
    return tf.reshape(tf.concat(taken, axis=1), shape)
