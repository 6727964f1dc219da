"""Quantized kernels as integers inside a SavedModel."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_secure.compression import QuantizedWeight, quantized_weights
from keras_secure.export.formats.packing import pack_blocks, unpack_blocks


class StoredModel:
    """A model that computes with kernels kept as integers and scales, instead of its own.

    A kernel of up to 2 or 4 bits takes four or two values to a byte. The graph multiplies them out
    where the model is called, so that nothing but the integers, the scales and what is not
    quantized is written.

    Args:
        model: The model.
        weights: What `keras_secure.compression.quantized_weights` says of it.
    """

    def __init__(self, model: Any, weights: Mapping[str, QuantizedWeight]):
        self._model = model
        self._replaced = [v for v in model.variables if v.path in weights]
        self._stored = [StoredKernel(v, weights[v.path]) for v in self._replaced]
        replaced = {id(variable) for variable in self._replaced}
        self._kept = [v for v in model.variables if id(v) not in replaced]

    def __getattr__(self, name):
        return getattr(self._model, name)

    @property
    def variables(self) -> list[Any]:
        """The Keras variables it reads or updates."""
        return self._kept + [v for kernel in self._stored for v in kernel.variables]

    def __call__(self, *args, **kwargs):
        """What the model returns."""
        values = [(v, s.read()) for v, s in zip(self._replaced, self._stored, strict=True)]
        # A scope hides the one around it, so what that says of the others is handed on.
        values += [(v, keras.ops.convert_to_tensor(v)) for v in self._kept]
        with keras.StatelessScope(state_mapping=values) as scope:
            outputs = self._model(*args, **kwargs)
        for variable, value in values[len(self._replaced) :]:
            # It collects updates, such as those of random seeds.
            update = scope.get_current_value(variable)
            if update is not value:
                variable.assign(update)
        return outputs


def stored_compactly(model: Any) -> Any:
    """The model to write: one with stored integers if anything is quantized, else the model."""
    weights = quantized_weights(model)
    return StoredModel(model, weights) if weights else model


class StoredKernel:
    """A kernel as a variable of integers and one of scales.

    Args:
        variable: The Keras variable that they stand for.
        weight: Its integers and scales.
    """

    def __init__(self, variable: Any, weight: QuantizedWeight):
        name = variable.path.replace("/", ".")
        self._shape, self._bits = weight.values.shape, weight.bits
        self._integers = keras.Variable(
            pack_blocks(weight.values, weight.bits),
            dtype="int8",
            trainable=False,
            name=f"{name}.integers",
        )
        self._scale = keras.Variable(weight.scale, trainable=False, name=f"{name}.scale")

    @property
    def variables(self) -> list[Any]:
        """What has to be saved."""
        return [self._integers, self._scale]

    def read(self) -> Any:
        """The float32 kernel: bit for bit that of the model."""
        integers = unpack_blocks(self._integers.value, self._shape, self._bits)
        return keras.ops.cast(integers, "float32") * self._scale.value
