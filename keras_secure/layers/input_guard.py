"""Finite, in-range inputs, whatever a client sends."""

import math

import keras
import numpy as np

from keras_secure.errors import InputError
from keras_secure.layers.bounds import checked_bounds
from keras_secure.registration import component

ON_VIOLATION = ("clip", "reject", "flag")
# A power of two that keeps the sum of any finite values finite, so that only others spoil it.
_SCALE = 2.0**-64


@component("layers")
class InputGuard(keras.layers.Layer):
    """Lets only finite values inside `bounds` reach the layers behind it.

    An example (a row: one index of the first axis) with a NaN or an infinity is always rejected:
    all its values are replaced by the lower bound. A finite value out of range is clipped, silently
    or with its example flagged, or has its example rejected, as `on_violation` says. Examples never
    influence each other, so one bad request leaves the rest of its batch as it was. `violations`
    tells which examples were rejected; what to answer for those is the caller's decision.

    The guard keeps the dtype of its inputs, integers (token ids, bytes) included, and has no
    weights. Gradients are finite: the identity for values that pass, zero for those replaced.

    Args:
        bounds: Pair of finite numbers (low, high), the range of valid inputs, both ends included.
            They are taken in the dtype of the inputs; for integers, as the integers between them.
            Defaults to `(0.0, 1.0)`.
        on_violation: What happens to finite values that are out of range. `"clip"` (the default):
            they are clipped. `"flag"`: they are clipped, and `screen` tells of which examples.
            `"reject"`: their example is rejected.
        tolerance: How far a floating point value may lie out of range before `"reject"` or
            `"flag"` takes notice; within it the value is clipped. Defaults to 1e-6.
        **kwargs: Keyword arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape (batch, ...), of any numeric dtype.

    Returns:
        A tensor of the same shape and dtype, finite and inside `bounds`.

    Raises:
        InputError: If an argument is out of its range, or if no value of the inputs' dtype lies
            inside `bounds`.

    Example:

    >>> guard = InputGuard(bounds=(0, 1))
    >>> x = np.array([[0.5, 2.0], [0.5, np.nan]], "float32")
    >>> guard(x).numpy().tolist()
    [[0.5, 1.0], [0.0, 0.0]]
    >>> guard.violations(x).numpy().tolist()
    [False, True]
    """

    def __init__(self, bounds=(0.0, 1.0), on_violation="clip", tolerance=1e-6, **kwargs):
        # The guard must see what the client sent, before a lower precision makes it infinite.
        super().__init__(autocast=False, **kwargs)
        if on_violation not in ON_VIOLATION:
            raise InputError(
                f"InputGuard got on_violation={on_violation!r}; expected one of "
                f"{', '.join(map(repr, ON_VIOLATION))}."
            )
        if not 0.0 <= tolerance < math.inf:
            raise InputError(
                f"InputGuard got tolerance={tolerance!r}; expected a finite number, at least 0."
            )
        self.bounds = checked_bounds("InputGuard", bounds)
        self.on_violation = on_violation
        self.tolerance = float(tolerance)
        self.supports_masking = True

    def call(self, inputs):
        """Returns `inputs` made finite and in range; see the class."""
        return self._replaced(inputs, self._accepted(inputs))

    def violations(self, inputs):
        """Tells which examples of `inputs` the guard rejects.

        Args:
            inputs: Tensor or array of shape (batch, ...), as the layer is called on.

        Returns:
            A boolean tensor of shape (batch,), True where the example is replaced.
        """
        ops = keras.ops
        return ops.logical_not(self._accepted(ops.convert_to_tensor(inputs)))

    def screen(self, inputs):
        """Does all that the guard does, for a graph that is served.

        Args:
            inputs: Tensor of shape (batch, ...).

        Returns:
            What the layer returns; a boolean tensor of shape (batch,), True for examples that are
            not rejected; and one that is True for examples that are flagged, or None unless
            `on_violation="flag"`.
        """
        accepted = self._accepted(inputs)
        flagged = None
        if self.on_violation == "flag":
            flagged = keras.ops.logical_not(self._inside(inputs))
        return self._replaced(inputs, accepted), accepted, flagged

    def compute_output_shape(self, input_shape):
        """The shape of the inputs."""
        return input_shape

    def compute_output_spec(self, inputs):
        """The shape and dtype of the inputs."""
        return keras.KerasTensor(inputs.shape, dtype=inputs.dtype)

    def get_config(self):
        """The arguments that rebuild this layer."""
        return {
            **super().get_config(),
            "bounds": self.bounds,
            "on_violation": self.on_violation,
            "tolerance": self.tolerance,
        }

    def _accepted(self, inputs):
        """Which examples are not rejected, shape (batch,).

        Reductions of numbers are several times as fast as comparing every value and reducing that.
        """
        ops = keras.ops
        accepted = None
        if keras.backend.is_float_dtype(inputs.dtype):
            scaled = ops.cast(inputs, self._wide(inputs.dtype)) * _SCALE
            accepted = ops.isfinite(ops.sum(scaled, axis=_all_but_batch(inputs)))
        if self.on_violation == "reject":
            inside = self._inside(inputs)
            return inside if accepted is None else accepted & inside
        return ops.ones(ops.shape(inputs)[:1], "bool") if accepted is None else accepted

    def _inside(self, inputs):
        """Which examples have all their values in range, where they have no NaN; shape (batch,)."""
        ops = keras.ops
        low, high = self._limits(inputs.dtype)
        axes = _all_but_batch(inputs)
        if keras.backend.is_float_dtype(inputs.dtype):
            inputs = ops.cast(inputs, self._wide(inputs.dtype))
            low, high = low - self.tolerance, high + self.tolerance
        if not axes:
            return (inputs >= low) & (inputs <= high)
        if 0 in inputs.shape[1:]:
            return ops.ones(ops.shape(inputs)[:1], "bool")
        return (_reduced(ops.max, inputs, axes) <= high) & (_reduced(ops.min, inputs, axes) >= low)

    def _replaced(self, inputs, accepted):
        """The values inside the bounds, and the lower bound all over examples not accepted."""
        ops = keras.ops
        low, high = (ops.cast(limit, inputs.dtype) for limit in self._limits(inputs.dtype))
        accepted = ops.reshape(accepted, (-1,) + (1,) * (len(inputs.shape) - 1))
        # Replaced before it is clipped: a NaN that went through `clip` would spoil the gradient.
        return ops.clip(ops.where(accepted, inputs, low), low, high)

    def _wide(self, dtype):
        """The dtype to compare in: half precision cannot hold a bound plus the tolerance."""
        return "float64" if keras.backend.standardize_dtype(dtype) == "float64" else "float32"

    def _limits(self, dtype):
        """The lowest and highest value of `dtype` inside the bounds, as Python numbers."""
        dtype = keras.backend.standardize_dtype(dtype)
        low, high = self.bounds
        if keras.backend.is_float_dtype(dtype):
            largest = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38}.get(
                dtype, float(np.finfo(self._wide(dtype)).max)
            )
            smallest = -largest
        elif keras.backend.is_int_dtype(dtype):
            low, high = math.ceil(low), math.floor(high)
            smallest, largest = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        else:
            smallest, largest = math.inf, -math.inf
        low, high = max(low, smallest), min(high, largest)
        if low > high:
            raise InputError(
                f"InputGuard {self.name!r} with bounds={self.bounds} got inputs of dtype {dtype}, "
                "which has no value in that range. Give bounds that fit the model's inputs."
            )
        return low, high


def _all_but_batch(inputs):
    return tuple(range(1, len(inputs.shape)))


def _reduced(reduction, inputs, axes):
    # Keras refuses a batch of no examples, known as such, without an initial value.
    known = {"initial": 0} if inputs.shape[0] == 0 else {}
    return reduction(inputs, axis=axes, **known)
