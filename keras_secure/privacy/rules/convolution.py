"""Rules for convolutions in one, two and three dimensions."""

import math

import keras
from keras import ops

from keras_secure import backend
from keras_secure.privacy.contributions import Materialized, OuterProducts
from keras_secure.privacy.convolution_products import ConvolutionProducts
from keras_secure.privacy.rules.dense import is_plain
from keras_secure.privacy.rules.registry import register_rule


@register_rule(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D, covers=is_plain)
def convolution(layer, calls):
    """Convolution: a Dense layer on patches, one position per place of the window."""
    calls = [(_channels_last(layer, x), _channels_last(layer, dz)) for x, dz in calls]
    found: list = []
    if layer.kernel.trainable and len(calls) == layer.groups == 1:
        (x, dz) = calls[0]
        found += [(layer.kernel, _products(layer, x, dz))]
    elif layer.kernel.trainable:
        groups = layer.groups
        windows = ops.concatenate([_windows(layer, x) for x, _ in calls], axis=3)
        grads = ops.concatenate(
            [_positions(dz, groups, layer.filters // groups) for _, dz in calls], axis=2
        )

        def finish(total):
            # (groups, window * inputs per group, filters per group) to (*window, inputs, filters)
            total = ops.transpose(total, (1, 0, 2))
            return ops.reshape(total, tuple(layer.kernel.shape))

        found += [(layer.kernel, OuterProducts(windows, grads, finish, positions_last=True))]
    if layer.use_bias and layer.bias.trainable:
        axes = tuple(range(1, layer.rank + 1))
        found += [(layer.bias, Materialized(sum(ops.sum(dz, axis=axes) for _, dz in calls)))]
    return found


def _products(layer, x, dz):
    def windows(x, dz):
        return backend.extract_shifts(
            x, dz, layer.kernel_size, layer.strides, layer.dilation_rate, layer.padding
        )

    def convolve(x, kernel):
        padding = layer.padding
        if padding == "causal":
            before = (layer.kernel_size[0] - 1) * layer.dilation_rate[0]
            x, padding = ops.pad(x, ((0, 0), (before, 0), (0, 0))), "valid"
        return ops.conv(
            x, kernel, layer.strides, padding, "channels_last", dilation_rate=layer.dilation_rate
        )

    return ConvolutionProducts(x, dz, windows, convolve, layer.kernel.shape)


def _channels_last(layer, tensor):
    if layer.data_format == "channels_last":
        return tensor
    rank = layer.rank
    return ops.transpose(tensor, (0, *range(2, rank + 2), 1))


def _positions(grads, groups, width):
    """Output gradients, shape (batch, groups, positions, filters per group)."""
    batch, count = ops.shape(grads)[0], math.prod(grads.shape[1:-1])
    if groups == 1:
        return ops.reshape(grads, (batch, 1, count, width))
    return ops.transpose(ops.reshape(grads, (batch, count, groups, width)), (0, 2, 1, 3))


def _windows(layer, x):
    """Windows of the input, shape (batch, groups, taps * inputs per group, positions)."""
    groups, width = layer.groups, x.shape[-1] // layer.groups
    taken = backend.extract_windows(
        x, layer.kernel_size, layer.strides, layer.dilation_rate, layer.padding
    )
    batch, count, taps = ops.shape(x)[0], taken.shape[-1], math.prod(layer.kernel_size)
    if groups > 1:
        # Each group takes a slice of the channels of every tap.
        taken = ops.reshape(taken, (batch, taps, groups, width, count))
        taken = ops.transpose(taken, (0, 2, 1, 3, 4))
    return ops.reshape(taken, (batch, groups, taps * width, count))
