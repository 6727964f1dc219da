"""Which layers can be bounded, and how."""

from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_secure.certification.interval import Interval
from keras_secure.certification.interval_activations import activation_bounds
from keras_secure.certification.interval_sums import affine, averaged, convolved, merged, multiplied
from keras_secure.errors import InputError

_RULES: dict[type, Callable] = {}


def register_interval_rule(layer_class, rule=None):
    """Teaches interval bounds a further layer.

    The rule speaks for the class and for subclasses that keep its `call`.

    Args:
        layer_class: A subclass of `keras.layers.Layer`.
        rule: Function of (layer, interval, arithmetic) that returns the `Interval` of the layer's
            outputs at inference; a layer with several inputs is given a list of intervals. What the
            layer rounds must be allowed for by `arithmetic.rounded` or `arithmetic.function`. None
            to use as a decorator.

    Returns:
        The rule.

    Example:

    >>> class Negated(keras.layers.Layer):
    ...     def call(self, inputs):
    ...         return -inputs
    >>> @register_interval_rule(Negated)
    ... def _(layer, interval, arithmetic):
    ...     return Interval(-interval.upper, -interval.lower)
    >>> model = keras.Sequential([keras.Input((1,)), Negated()])
    >>> from keras_secure.certification import interval_bounds
    >>> lower, upper = interval_bounds(model, [[1.0]], [[2.0]])
    >>> bool(-2.0001 < lower[0, 0] < upper[0, 0] < -0.9999)
    True
    """
    if rule is None:
        return lambda given: register_interval_rule(layer_class, given)
    _RULES[layer_class] = rule
    return rule


def check_computation(layer, arithmetic):
    """Refuses a layer that computes otherwise than its float weights say.

    Args:
        layer: A built layer, or an operation of a functional model.
        arithmetic: The `Arithmetic`.

    Raises:
        InputError: If it is quantized, adds a LoRA update, or its dtype is too coarse.

    Example:

    >>> from keras_secure.certification.interval import Arithmetic
    >>> check_computation(keras.layers.Dense(2), Arithmetic())
    """
    dtype = getattr(layer, "compute_dtype", None) or "float32"
    if not arithmetic.accepts(dtype):
        raise InputError(
            f"The layer {layer.name!r} ({type(layer).__name__}) computes in {dtype}, whose "
            "rounding is too coarse to bound. Build the model anew under the float32 policy and "
            "give it these weights."
        )
    if getattr(layer, "quantization_mode", None) is not None:
        raise InputError(
            f"The layer {layer.name!r} is quantized, which the bounds do not cover. "
            "Certify it before quantize."
        )
    if getattr(layer, "lora_enabled", False):
        raise InputError(
            f"The layer {layer.name!r} adds a LoRA update to its weights in each call, whose "
            "rounding the bounds do not cover. Save the weights merged and load them anew."
        )


def layer_bounds(layer, interval, arithmetic):
    """Bounds the outputs of one layer at inference.

    Args:
        layer: A built layer, or an operation of a functional model.
        interval: The `Interval` of its inputs, or a list of these.
        arithmetic: The `Arithmetic`.

    Returns:
        An `Interval`.

    Raises:
        InputError: If nothing is known about the layer.

    Example:

    >>> from keras_secure.certification.interval import Arithmetic
    >>> box = Interval(ops.convert_to_tensor([[-2.0]]), ops.convert_to_tensor([[3.0]]))
    >>> layer = keras.layers.Activation("softmax", name="inner_softmax")
    >>> layer_bounds(layer, box, Arithmetic())
    Traceback (most recent call last):
        ...
    keras_secure.errors.InputError: The layer 'inner_softmax' (Activation) has the activation ...
    """
    check_computation(layer, arithmetic)
    for kind in type(layer).__mro__:
        # A subclass with a `call` of its own does something else.
        if kind in _RULES and getattr(type(layer), "call", None) is getattr(kind, "call", None):
            return _RULES[kind](layer, interval, arithmetic)
    # Of this library's noise layers: those that act in training only.
    if getattr(layer, "active", None) == "training":
        return interval
    rule = _OPERATIONS.get(type(layer).__name__)
    if rule is not None and not isinstance(layer, keras.layers.Layer):
        return rule(layer, interval, arithmetic)
    raise InputError(
        f"Nothing is known about the bounds of the layer {layer.name!r} ({type(layer).__name__}). "
        "Covered are Dense, Conv1D to Conv3D, DepthwiseConv and SeparableConv, "
        "BatchNormalization, monotone activations, pooling, padding, reshaping, Rescaling, and "
        "merging layers. Replace the layer, or teach it by "
        "keras_secure.certification.register_interval_rule."
    )


def activated(layer, interval, arithmetic):
    """Bounds the activation of a layer that has one.

    Args:
        layer: A layer with an `activation`.
        interval: The `Interval` before it.
        arithmetic: The `Arithmetic`.
    """
    function = layer.activation
    if function is None:
        return interval
    found = activation_bounds(function, interval, layer.compute_dtype, arithmetic)
    if found is None:
        name = getattr(function, "__name__", function)
        raise InputError(
            f"The layer {layer.name!r} ({type(layer).__name__}) has the activation {name!r}, "
            "whose bounds are not known inside a network (softmax is, as the last one). Use a "
            "monotone one such as relu, leaky_relu, tanh or sigmoid."
        )
    return found


def _unchanged(layer, interval, arithmetic):
    return interval


def _moved(layer, interval, arithmetic):
    # `call` rather than the layer itself, which would cast bounds to the model's precision.
    return interval.map(layer.call)


def _leaky(layer, interval, arithmetic):
    """x above 0 and slope * x below, whatever the slopes are: extreme at an end, or at 0."""
    ends = interval.map(lambda values: _leaky_values(layer, values, arithmetic))
    spans = ops.logical_and(interval.lower < 0, interval.upper > 0)
    lower = ops.minimum(ends.lower, ends.upper)
    lower = ops.where(spans, ops.minimum(lower, 0.0), lower)
    return arithmetic.function(
        Interval(lower, ops.maximum(ends.lower, ends.upper)), layer.compute_dtype
    )


def _leaky_values(layer, values, arithmetic):
    slope = layer.alpha if isinstance(layer, keras.layers.PReLU) else layer.negative_slope
    return ops.where(values > 0, values, arithmetic.cast(slope) * values)


def _rectified(layer, interval, arithmetic):
    slope, threshold = float(layer.negative_slope), float(layer.threshold)
    # It jumps at its threshold, which must be the same number in the model's precision and here.
    if slope < 0 or threshold < 0 or float(np.float32(threshold)) != threshold:
        raise InputError(
            f"The layer {layer.name!r} (ReLU) has a negative slope of {slope} and a threshold of "
            f"{threshold}. Both must be at least 0, or it is not increasing, and the threshold a "
            "number that float32 holds."
        )
    return arithmetic.function(interval.map(layer.call), layer.compute_dtype)


def _exponential_linear(layer, interval, arithmetic):
    if float(layer.alpha) < 0:
        raise InputError(
            f"The layer {layer.name!r} (ELU) has a negative alpha. "
            "The bounds need one of at least 0."
        )
    return arithmetic.function(interval.map(layer.call), layer.compute_dtype)


def _dense(layer, interval, arithmetic):
    return activated(layer, multiplied(layer, interval, arithmetic), arithmetic)


def _convolution(layer, interval, arithmetic):
    return activated(layer, convolved(layer, interval, arithmetic), arithmetic)


def _fill():
    layers = keras.layers
    unchanged = (
        "ActivityRegularization AlphaDropout Dropout GaussianDropout GaussianNoise Identity "
        "InputLayer SpatialDropout1D SpatialDropout2D SpatialDropout3D"
    )
    moved = (
        "Cropping1D Cropping2D Cropping3D Flatten GlobalMaxPooling1D GlobalMaxPooling2D "
        "GlobalMaxPooling3D MaxPooling1D MaxPooling2D MaxPooling3D Permute RepeatVector Reshape "
        "UpSampling1D ZeroPadding1D ZeroPadding2D ZeroPadding3D"
    )
    averages = (
        "AveragePooling1D AveragePooling2D AveragePooling3D GlobalAveragePooling1D "
        "GlobalAveragePooling2D GlobalAveragePooling3D"
    )
    convolutions = (
        "Conv1D Conv2D Conv3D DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D"
    )
    affines = "BatchNormalization Normalization Rescaling"
    merges = "Add Average Concatenate Maximum Minimum Subtract"
    by_name = {
        **dict.fromkeys(unchanged.split(), _unchanged),
        **dict.fromkeys(moved.split(), _moved),
        **dict.fromkeys(averages.split(), averaged),
        **dict.fromkeys(convolutions.split(), _convolution),
        **dict.fromkeys(affines.split(), affine),
        **dict.fromkeys(merges.split(), merged),
        "Activation": activated,
        "Dense": _dense,
        "ELU": _exponential_linear,
        "LeakyReLU": _leaky,
        "PReLU": _leaky,
        "ReLU": _rectified,
    }
    for name, rule in by_name.items():
        _RULES[getattr(layers, name)] = rule


_fill()

# Operators between tensors of a functional model, `x + y` for example.
_OPERATIONS = {
    "Add": merged,
    "Maximum": merged,
    "Minimum": merged,
    "Relu": lambda layer, interval, arithmetic: interval.map(ops.relu),
    "Subtract": merged,
}
