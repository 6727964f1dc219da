"""Rules for depthwise and separable convolutions."""

import math

import keras
from keras import ops

from keras_secure import backend
from keras_secure.privacy.contributions import Materialized, OuterProducts
from keras_secure.privacy.rules.registry import register_rule
from keras_secure.privacy.rules.transposed_convolution import channels_last


@register_rule(keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
def depthwise_convolution(layer, calls):
    """Depthwise convolution: every channel has a small kernel, so its gradient is formed."""
    calls = [(channels_last(layer, x), channels_last(layer, dz)) for x, dz in calls]
    found = []
    if layer.kernel.trainable:
        found += [(layer.kernel, _depthwise_gradient(layer, layer.kernel, calls))]
    return found + _bias(layer, calls)


@register_rule(keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
def separable_convolution(layer, calls):
    """Separable convolution: a depthwise one, then a Dense layer at every position.

    What lies between the two is not seen in the forward pass; it is computed once more.
    """
    calls = [(channels_last(layer, x), channels_last(layer, dz)) for x, dz in calls]
    depthwise, pointwise = layer.depthwise_kernel, layer.pointwise_kernel
    width_in, width_out = pointwise.shape[-2:]
    found: list = []
    if depthwise.trainable:
        matrix = ops.reshape(ops.cast(pointwise, "float32"), (width_in, width_out))
        between = [(x, ops.matmul(dz, ops.transpose(matrix))) for x, dz in calls]
        found += [(depthwise, _depthwise_gradient(layer, depthwise, between))]
    if pointwise.trainable:
        inputs = [_positions(_depthwise(layer, x)) for x, _ in calls]
        grads = [_positions(dz) for _, dz in calls]
        kernel = OuterProducts(
            ops.concatenate(inputs, axis=2),
            ops.concatenate(grads, axis=2),
            lambda total: ops.reshape(total, tuple(pointwise.shape)),
        )
        found += [(pointwise, kernel)]
    return found + _bias(layer, calls)


def _depthwise_gradient(layer, kernel, calls):
    """The (batch, *kernel.shape) gradients of a depthwise kernel; all tensors channels last."""
    taps, (channels, multiplier) = math.prod(layer.kernel_size), kernel.shape[-2:]
    total = 0.0
    for x, dz in calls:
        windows = backend.extract_windows(
            x, layer.kernel_size, layer.strides, layer.dilation_rate, layer.padding
        )
        batch, positions = ops.shape(x)[0], windows.shape[-1]
        windows = ops.reshape(windows, (batch, taps, channels, positions))
        dz = ops.reshape(dz, (batch, positions, channels, multiplier))
        total = total + ops.einsum("bkct,btcm->bkcm", windows, dz)
    return Materialized(ops.reshape(total, (-1, *kernel.shape)))


def _depthwise(layer, x):
    # In the precision of the forward pass, so that the values are those that it saw.
    outputs = ops.depthwise_conv(
        ops.cast(x, layer.compute_dtype),
        ops.cast(layer.depthwise_kernel, layer.compute_dtype),
        strides=layer.strides,
        padding=layer.padding,
        dilation_rate=layer.dilation_rate,
        data_format="channels_last",
    )
    return ops.cast(outputs, "float32")


def _positions(tensor):
    count = math.prod(tensor.shape[1:-1])
    return ops.reshape(tensor, (ops.shape(tensor)[0], 1, count, tensor.shape[-1]))


def _bias(layer, calls):
    if not layer.use_bias or not layer.bias.trainable:
        return []
    axes = tuple(range(1, layer.rank + 1))
    return [(layer.bias, Materialized(sum(ops.sum(dz, axis=axes) for _, dz in calls)))]
