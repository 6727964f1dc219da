"""Scales that are trained as multiples, about 1, of fixed powers of two."""

from typing import Any

import keras
import numpy as np
from keras import ops

_LEAST = 2.0**-6


class _AtLeast(keras.constraints.Constraint):
    def __call__(self, w):
        return ops.maximum(w, _LEAST)


def scale_variables(layer: Any, name: str, shape: Any) -> dict[str, Any]:
    """Adds the variables of scales to a layer.

    A step of any optimizer then changes a scale by a share of itself, whatever its size, and
    multiplying by the power of two is exact.

    Args:
        layer: The layer, in its `build`.
        name: What is scaled.
        shape: Shape of the scales.

    Returns:
        The trained `multiple` and the fixed `unit`.
    """
    options = {"shape": shape, "initializer": "ones", "dtype": "float32", "autocast": False}
    return {
        "multiple": layer.add_weight(name=f"{name}_scale", constraint=_AtLeast(), **options),
        "unit": layer.add_weight(name=f"{name}_unit", trainable=False, **options),
    }


def start_scale(state: dict[str, Any], scale: np.ndarray) -> None:
    """Sets the variables to positive float32 scales."""
    unit = np.exp2(np.floor(np.log2(scale))).astype(np.float32)
    state["unit"].assign(unit)
    state["multiple"].assign(scale / unit)
