"""Rules for convolutions in one, two and three dimensions."""

import math

import keras
from keras import ops

from keras_secure import backend
from keras_secure.privacy.contributions import Materialized, OuterProducts
from keras_secure.privacy.rules.dense import is_plain
from keras_secure.privacy.rules.registry import register_rule


@register_rule(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D, covers=is_plain)
def convolution(layer, calls):
    """Convolution: a Dense layer on patches, one position per place of the window."""
    calls = [(_channels_last(layer, x), _channels_last(layer, dz)) for x, dz in calls]
    found = []
    if layer.kernel.trainable:
        groups = layer.groups
        patches = ops.concatenate([_patches(layer, x) for x, _ in calls], axis=2)
        grads = ops.concatenate(
            [_positions(dz, groups, layer.filters // groups) for _, dz in calls], axis=2
        )

        def finish(total):
            # (groups, window * inputs per group, filters per group) to (*window, inputs, filters)
            total = ops.transpose(total, (1, 0, 2))
            return ops.reshape(total, tuple(layer.kernel.shape))

        found += [(layer.kernel, OuterProducts(patches, grads, finish))]
    if layer.use_bias and layer.bias.trainable:
        axes = tuple(range(1, layer.rank + 1))
        found += [(layer.bias, Materialized(sum(ops.sum(dz, axis=axes) for _, dz in calls)))]
    return found


def _channels_last(layer, tensor):
    if layer.data_format == "channels_last":
        return tensor
    rank = layer.rank
    return ops.transpose(tensor, (0, *range(2, rank + 2), 1))


def _positions(grads, groups, width):
    flat = ops.reshape(grads, (ops.shape(grads)[0], math.prod(grads.shape[1:-1]), groups, width))
    return _groups_first(flat)


def _patches(layer, x):
    """Windows of the input, shape (batch, groups, positions, window * inputs per group)."""
    window, channels, groups = layer.kernel_size, x.shape[-1], layer.groups
    taken = backend.extract_windows(x, window, layer.strides, layer.dilation_rate, layer.padding)
    batch, count, size = ops.shape(x)[0], math.prod(taken.shape[1:-1]), math.prod(window)
    if groups > 1:
        # Each group takes a slice of the channels of every tap.
        taken = ops.reshape(taken, (batch, count, size, groups, channels // groups))
        taken = ops.transpose(taken, (0, 1, 3, 2, 4))
    return _groups_first(ops.reshape(taken, (batch, count, groups, size * channels // groups)))


def _groups_first(tensor):
    _, positions, groups, width = tensor.shape
    if groups == 1:
        return ops.reshape(tensor, (ops.shape(tensor)[0], 1, positions, width))
    return ops.transpose(tensor, (0, 2, 1, 3))
