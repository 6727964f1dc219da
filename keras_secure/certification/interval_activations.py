"""Bounds through activation functions, which act on each number alone."""

import keras
from keras import ops

from keras_secure.certification.interval import Interval

_INCREASING = (
    "celu",
    "elu",
    "exponential",
    "hard_shrink",
    "hard_sigmoid",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "soft_shrink",
    "softplus",
    "softsign",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "tanh",
    "tanh_shrink",
)
_EXACT = ("linear", "relu", "relu6")
# Functions that fall to one lowest point and rise from there: where it lies, and how low.
_VALLEYS = {
    "gelu": (-0.751791525, -0.169971208),
    "hard_silu": (-1.5, -0.375),
    "mish": (-1.192431207, -0.308843413),
    "silu": (-1.278464543, -0.278464543),
}


def activation_bounds(function, interval, dtype, arithmetic):
    """Bounds what an activation function makes of a box.

    Args:
        function: A function of `keras.activations`.
        interval: The `Interval` of its inputs.
        dtype: What the layer computes in.
        arithmetic: The `Arithmetic`.

    Returns:
        An `Interval`, or None for a function that is not known.

    Example:

    >>> from keras_secure.certification.interval import Arithmetic
    >>> box = Interval(ops.convert_to_tensor([[-2.0]]), ops.convert_to_tensor([[3.0]]))
    >>> found = activation_bounds(keras.activations.relu, box, "float32", Arithmetic())
    >>> float(found.lower[0, 0]), float(found.upper[0, 0])
    (0.0, 3.0)
    """
    name = _name(function)
    if name in _EXACT:
        return interval.map(function)
    if name in _INCREASING:
        return arithmetic.function(interval.map(function), dtype)
    if name not in _VALLEYS:
        return None
    place, lowest = _VALLEYS[name]
    ends = interval.map(function)
    lower = ops.minimum(ends.lower, ends.upper)
    inside = ops.logical_and(interval.lower < place, interval.upper > place)
    lower = ops.where(inside, ops.minimum(lower, lowest), lower)
    return arithmetic.function(Interval(lower, ops.maximum(ends.lower, ends.upper)), dtype)


def _name(function):
    for name in (*_INCREASING, *_VALLEYS):
        if function is getattr(keras.activations, name, None):
            return name
    return None
