"""Kernels rounded to a few integers in training, with scales that are learned."""

from typing import Any

import numpy as np
from keras import ops

from keras_secure.compression.integers import best_scales, check_bits, levels
from keras_secure.compression.quantized_weights import QuantizedWeight, bits_of
from keras_secure.compression.scale_variables import scale_variables, start_scale
from keras_secure.compression.straight_through import rounded
from keras_secure.registration import component


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

    >>> import keras
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
        return scale_variables(layer, name, shape)

    def start(self, state: dict[str, Any], weights: np.ndarray, axis: int) -> None:
        """Sets the variables to the scales that suit the weights best."""
        start_scale(state, best_scales(weights, axis, self.bits))

    def computed(self, state: dict[str, Any], variable: Any) -> Any:
        """The rounded kernel, exactly integers times scales; traceable, float32."""
        return self._rounded(state, variable)[0]

    def described(self, state: dict[str, Any], variable: Any, axis: int) -> QuantizedWeight:
        """The integers and scales of the rounded kernel as it is now (not traceable)."""
        integers = ops.convert_to_numpy(self._rounded(state, variable)[1]).astype(np.int8)
        scale = ops.convert_to_numpy(state["multiple"]) * ops.convert_to_numpy(state["unit"])
        return QuantizedWeight(integers, scale, axis, bits_of(integers))

    def _rounded(self, state: dict[str, Any], variable: Any) -> tuple[Any, Any]:
        weights = ops.cast(ops.convert_to_tensor(variable), "float32")
        multiple, unit = (ops.convert_to_tensor(state[name]) for name in ("multiple", "unit"))
        count = float(np.prod(weights.shape)) / float(np.prod(multiple.shape))
        return rounded(weights, multiple, unit, levels(self.bits), count)

    def get_config(self):
        """Returns the options."""
        return {"bits": self.bits}

    @classmethod
    def from_config(cls, config):
        """Makes it from its options."""
        return cls(**config)
