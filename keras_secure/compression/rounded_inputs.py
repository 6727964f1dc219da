"""The inputs of a layer rounded to a few integers in training, with a scale that is learned."""

import contextlib
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_secure.compression.integers import check_bits
from keras_secure.compression.scale_variables import scale_variables, start_scale
from keras_secure.compression.straight_through import rounded
from keras_secure.errors import InputError
from keras_secure.replacement import replaced

_SHARE_IN_RANGE = 0.999
_MOST_KEPT = 100_000


class RoundedInputs:
    """Rounds the inputs of a layer to integers times one scale.

    Args:
        bits: From 2 to 8.
        signed: Whether there are integers below zero; after a ReLU none are needed.
    """

    def __init__(self, bits: int, signed: bool):
        self.bits, self.signed = check_bits(bits), bool(signed)
        self._state: dict[str, Any] = {}

    @property
    def levels(self) -> tuple[int, int]:
        """The smallest and the largest integer."""
        half = 2 ** (self.bits - 1)
        return (-half, half - 1) if self.signed else (0, 2 * half - 1)

    @property
    def scale(self) -> float:
        """The scale as it is now (not traceable)."""
        multiple, unit = (ops.convert_to_numpy(v) for v in self._state.values())
        return float(multiple * unit)

    def build(self, layer: Any) -> None:
        """Adds the scale's variables to a layer."""
        self._state = scale_variables(layer, "inputs", ())

    def start(self, seen: np.ndarray) -> None:
        """Sets the scale by inputs that the layer had."""
        reach = float(np.quantile(np.abs(seen), _SHARE_IN_RANGE)) or float(np.abs(seen).max())
        start_scale(self._state, np.asarray((reach or 1.0) / self.levels[1], np.float32))

    def __call__(self, x: Any) -> Any:
        """The rounded inputs; traceable."""
        values = ops.cast(x, "float32")
        size = float(np.prod([d for d in values.shape[1:] if d is not None]))
        multiple, unit = (ops.convert_to_tensor(v) for v in self._state.values())
        return ops.cast(rounded(values, multiple, unit, self.levels, size)[0], x.dtype)

    def plain(self, x: Any) -> Any:
        """The same by operations of Keras alone, for a model without this library."""
        scale = self.scale
        least, most = self.levels
        values = ops.round(ops.clip(ops.cast(x, "float32") / scale, least, most)) * scale
        return ops.cast(values, x.dtype)

    def get_config(self):
        """Returns the options."""
        return {"bits": self.bits, "signed": self.signed}


def inputs_of(model: Any, layers: list[Any], x: Any) -> dict[int, np.ndarray]:
    """Runs a model and keeps what some of its layers were given.

    Args:
        model: A built Keras model.
        layers: The layers.
        x: A batch of the model's inputs.

    Returns:
        Of each layer by its id, up to 100,000 of the values over all its calls.

    Raises:
        InputError: There is no example, one is not finite, or the model cannot compute them.
    """
    for part in keras.tree.flatten(x):
        values = np.asarray(part)
        if values.ndim == 0 or len(values) == 0:
            raise InputError("calibration holds no example; some hundred were expected.")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise InputError(
                "calibration has values that are not finite; scales start by them, so give "
                "examples as the model is meant for."
            )
    seen: dict[int, list[np.ndarray]] = {id(layer): [] for layer in layers}

    def recorder(layer):
        usual = layer.call

        def call(inputs, *args, **kwargs):
            values = np.asarray(ops.convert_to_numpy(ops.cast(inputs, "float32"))).ravel()
            step = -(-len(values) // _MOST_KEPT)
            # The extremes decide whether there are negative values, so they are always kept.
            seen[id(layer)] += [values[::step], np.array([values.min(), values.max()])]
            return usual(inputs, *args, **kwargs)

        return call

    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(replaced(layer, "call", recorder(layer)))
        try:
            model(keras.tree.map_structure(ops.convert_to_tensor, x), training=False)
        except (TypeError, ValueError) as error:
            raise InputError(f"The model cannot compute calibration: {error}") from error
    return {key: np.concatenate(found) for key, found in seen.items() if found}
