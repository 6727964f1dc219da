"""Bounds through everything that adds: products with weights, averages, merging layers."""

import keras
import numpy as np
from keras import ops

from keras_secure.certification.interval import Interval
from keras_secure.errors import InputError


def multiplied(layer, interval, arithmetic):
    """Bounds a `Dense` layer before its activation.

    Args:
        layer: The layer.
        interval: The `Interval` of its inputs.
        arithmetic: The `Arithmetic`.
    """
    kernel = arithmetic.cast(layer.kernel)
    return _linear(interval, ops.matmul, kernel, layer.bias, kernel.shape[0], layer, arithmetic)


def convolved(layer, interval, arithmetic):
    """Bounds a convolution of any kind before its activation.

    Args:
        layer: The layer.
        interval: The `Interval` of its inputs.
        arithmetic: The `Arithmetic`.
    """
    options = {
        "strides": layer.strides,
        "padding": layer.padding,
        "dilation_rate": layer.dilation_rate,
        "data_format": layer.data_format,
    }
    if layer.padding == "causal":
        before = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
        places = [(0, 0), (before, 0), (0, 0)]
        if layer.data_format == "channels_first":
            places = [(0, 0), (0, 0), (before, 0)]
        interval = interval.map(lambda values: ops.pad(values, places))
        options["padding"] = "valid"

    def convolution(values, kernel):
        return ops.conv(values, kernel, **options)

    def by_channel(values, kernel):
        return ops.depthwise_conv(values, kernel, **options)

    def pointwise(values, kernel):
        return ops.conv(values, kernel, padding="valid", data_format=layer.data_format)

    separable = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
    depthwise = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
    taps = int(np.prod(layer.kernel_size))
    if isinstance(layer, depthwise):
        kernel = arithmetic.cast(layer.kernel)
        return _linear(interval, by_channel, kernel, layer.bias, taps, layer, arithmetic)
    if isinstance(layer, separable):
        first, second = map(arithmetic.cast, (layer.depthwise_kernel, layer.pointwise_kernel))
        interval = _linear(interval, by_channel, first, None, taps, layer, arithmetic)
        terms = second.shape[-2]
        return _linear(interval, pointwise, second, layer.bias, terms, layer, arithmetic)
    kernel = arithmetic.cast(layer.kernel)
    terms = taps * kernel.shape[-2]
    return _linear(interval, convolution, kernel, layer.bias, terms, layer, arithmetic)


def _linear(interval, product, kernel, bias, terms, layer, arithmetic):
    """Center and radius of a linear map (Gowal et al. 2018, section 3), and its rounding."""
    center, absolute = interval.center, ops.abs(kernel)
    middle = product(center, kernel)
    reach = product(interval.radius, absolute)
    shift = arithmetic.cast(0.0)
    if bias is not None:
        shift = arithmetic.cast(bias)
        if getattr(layer, "data_format", None) == "channels_first":
            shift = ops.reshape(shift, (-1,) + (1,) * (len(middle.shape) - 2))
        middle = middle + shift
    found = Interval(middle - reach, middle + reach)
    if not arithmetic.sound:
        return found
    sizes = product(ops.abs(center), absolute) + reach + ops.abs(shift)
    return arithmetic.rounded(found, sizes, terms, layer.compute_dtype, products=True)


def affine(layer, interval, arithmetic):
    """Bounds layers that scale and shift: `BatchNormalization`, `Normalization`, `Rescaling`.

    Args:
        layer: The layer.
        interval: The `Interval` of its inputs.
        arithmetic: The `Arithmetic`.
    """
    scale, shift, sizes = _scale_and_shift(layer, len(interval.lower.shape), arithmetic)
    ends = interval.map(lambda values: values * scale + shift)
    found = Interval(ops.minimum(ends.lower, ends.upper), ops.maximum(ends.lower, ends.upper))
    sizes = ops.abs(scale) * interval.magnitude + sizes
    # Few operations, but a root, a quotient and, in some kernels, a scale formed in advance.
    return arithmetic.rounded(found, sizes, 16, layer.compute_dtype)


def _scale_and_shift(layer, rank, arithmetic):
    if isinstance(layer, keras.layers.Rescaling):
        shift = arithmetic.cast(layer.offset)
        return arithmetic.cast(layer.scale), shift, ops.abs(shift)
    if isinstance(layer, keras.layers.Normalization):
        if layer.invert:
            raise InputError(
                f"The layer {layer.name!r} inverts a normalization: not covered. "
                "Train and certify without it."
            )
        mean = arithmetic.cast(layer.mean)
        deviation = ops.sqrt(arithmetic.cast(layer.variance))
        scale = 1.0 / ops.maximum(deviation, keras.config.epsilon())
        return scale, -mean * scale, ops.abs(mean * scale)
    shape = [1] * rank
    shape[layer.axis] = -1

    def spread(values, otherwise):
        if values is None:
            return ops.full([1] * rank, otherwise, arithmetic.dtype)
        return ops.reshape(arithmetic.cast(values), shape)

    mean, offset = spread(layer.moving_mean, 0.0), spread(layer.beta, 0.0)
    scale = spread(layer.gamma, 1.0) / ops.sqrt(spread(layer.moving_variance, 1.0) + layer.epsilon)
    return scale, offset - mean * scale, ops.abs(offset) + ops.abs(mean * scale)


def averaged(layer, interval, arithmetic):
    """Bounds pooling by averages.

    Args:
        layer: The layer.
        interval: The `Interval` of its inputs.
        arithmetic: The `Arithmetic`.
    """
    if hasattr(layer, "pool_size"):
        terms = int(np.prod(layer.pool_size))
    else:
        terms = int(np.prod([size or 1 for size in interval.lower.shape[1:]]))
    sizes = layer.call(interval.magnitude)
    return arithmetic.rounded(interval.map(layer.call), sizes, terms, layer.compute_dtype)


def merged(layer, intervals, arithmetic):
    """Bounds layers, or operators, of several inputs.

    Args:
        layer: The layer.
        intervals: A list of `Interval`.
        arithmetic: The `Arithmetic`.
    """
    kind = type(layer).__name__
    lowers = [interval.lower for interval in intervals]
    uppers = [interval.upper for interval in intervals]
    if kind == "Concatenate":
        return Interval(
            ops.concatenate(lowers, axis=layer.axis), ops.concatenate(uppers, axis=layer.axis)
        )
    if kind in ("Maximum", "Minimum"):
        take = ops.maximum if kind == "Maximum" else ops.minimum
        return Interval(_fold(take, lowers), _fold(take, uppers))
    if kind == "Subtract":
        found = Interval(lowers[0] - uppers[1], uppers[0] - lowers[1])
    else:
        found = Interval(_fold(ops.add, lowers), _fold(ops.add, uppers))
    sizes = _fold(ops.add, [interval.magnitude for interval in intervals])
    if kind == "Average":
        found, sizes = found.map(lambda values: values / len(intervals)), sizes / len(intervals)
    dtype = getattr(layer, "compute_dtype", None) or "float32"
    return arithmetic.rounded(found, sizes, len(intervals), dtype)


def _fold(combine, tensors):
    total = tensors[0]
    for tensor in tensors[1:]:
        total = combine(total, tensor)
    return total
