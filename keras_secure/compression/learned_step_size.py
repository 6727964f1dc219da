"""Kernels rounded to a few integers in training, with scales that are learned."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_secure.compression.integers import best_scales, check_bits, levels
from keras_secure.compression.quantized_weights import QuantizedWeight, bits_of
from keras_secure.registration import component

_LEAST = 2.0**-6


class _AtLeast(keras.constraints.Constraint):
    def __call__(self, w):
        return ops.maximum(w, _LEAST)


@component("compression")
class LearnedStepSize:
    """Rounds a kernel to integers times a scale for each output channel.

    The gradient passes rounding unchanged where a weight is in range, and is none where it is
    clipped; that of the scale is the paper's. The scale is kept as a multiple, about 1, of a power
    of two that is fixed at the start, so that a step of any optimizer changes it by a share of
    itself; the gradient is weighted so that plain gradient descent moves it as in the paper.

    Args:
        bits: From 2 to 8. The levels are those of two's complement, at 8 bits -127 to 127.

    Raises:
        InputError: `bits` is out of range.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> from keras_secure.compression import quantize_aware
    >>> quantize_aware(model, bits=3).layers[0].scheme.bits
    3

    Reference:
        Esser et al. 2020, Learned step size quantization (arXiv 1902.08153), section 2.
    """

    def __init__(self, bits: int = 8):
        self.bits = check_bits(bits)

    def build(self, layer: Any, name: str, variable: Any, axis: int) -> dict[str, Any]:
        """Adds the scale's variables to a layer for one kernel, and returns them."""
        shape = [1] * len(variable.shape)
        shape[axis] = variable.shape[axis]
        return {
            "multiple": layer.add_weight(
                shape=shape,
                initializer="ones",
                dtype="float32",
                autocast=False,
                constraint=_AtLeast(),
                name=f"{name}_scale",
            ),
            "unit": layer.add_weight(
                shape=shape,
                initializer="ones",
                dtype="float32",
                autocast=False,
                trainable=False,
                name=f"{name}_unit",
            ),
        }

    def start(self, state: dict[str, Any], weights: np.ndarray, axis: int) -> None:
        """Sets the variables to the scales that suit the weights best."""
        scale = best_scales(weights, axis, self.bits)
        unit = np.exp2(np.floor(np.log2(scale))).astype(np.float32)
        state["unit"].assign(unit)
        state["multiple"].assign(scale / unit)

    def computed(self, state: dict[str, Any], variable: Any) -> Any:
        """The rounded kernel, exactly integers times scales; traceable, float32."""
        weights = ops.cast(ops.convert_to_tensor(variable), "float32")
        least, most = levels(self.bits)
        multiple = ops.convert_to_tensor(state["multiple"])
        unit = ops.convert_to_tensor(state["unit"])
        scale = multiple * unit
        ratio = weights / scale
        inside = ops.logical_and(ratio >= least, ratio <= most)
        integers = ops.round(ops.clip(ratio, least, most))
        passing = ops.cast(inside, "float32")
        # How the rounded weight moves with the scale, by the paper's weight of that gradient; once
        # over the unit because the scale is a multiple of it, and once more for relative steps.
        count = float(np.prod(weights.shape)) / float(np.prod(multiple.shape))
        slope = (integers - passing * ratio) / (unit * float(np.sqrt(count * most)))
        # Zero, with the gradient that rounding has not: so the value is exact to the last bit.
        moved = weights * ops.stop_gradient(passing) + multiple * ops.stop_gradient(slope)
        return ops.stop_gradient(integers * scale) + (moved - ops.stop_gradient(moved))

    def described(self, state: dict[str, Any], variable: Any, axis: int) -> QuantizedWeight:
        """The integers and scales of the rounded kernel as it is now (not traceable)."""
        weights = np.asarray(ops.convert_to_numpy(variable), np.float32)
        scale = ops.convert_to_numpy(state["multiple"]) * ops.convert_to_numpy(state["unit"])
        least, most = levels(self.bits)
        integers = np.rint(np.clip(weights / scale, least, most)).astype(np.int8)
        return QuantizedWeight(integers, scale, axis, bits_of(integers))

    def get_config(self):
        """Returns the options."""
        return {"bits": self.bits}

    @classmethod
    def from_config(cls, config):
        """Makes it from its options."""
        return cls(**config)
