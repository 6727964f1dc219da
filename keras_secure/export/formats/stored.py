"""Compressed kernels as integers inside a SavedModel."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_secure.compression import (
    ClusteredWeight,
    QuantizedWeight,
    clustered_weights,
    quantized_weights,
)
from keras_secure.compression.substituted import call_with
from keras_secure.export.formats.packing import pack_blocks, unpack_blocks

Compact = QuantizedWeight | ClusteredWeight


def compact_weights(model: Any) -> dict[str, Compact]:
    """The kernels of a model that fit into integers, by their variables' paths.

    Args:
        model: A built Keras model.

    Returns:
        Integers and scales of each quantized kernel; numbers and values of each other that has so
        few values that this takes at most half its bytes.
    """
    found: dict[str, Compact] = dict(quantized_weights(model))
    for path, weight in clustered_weights(model).items():
        small = 2 * (weight.indices.nbytes + weight.values.nbytes) <= 4 * weight.indices.size
        if path not in found and small:
            found[path] = weight
    return found


class StoredModel:
    """A model that computes with kernels kept as integers, instead of its own.

    A kernel of up to 2 or 4 bits takes four or two values to a byte. The graph makes floats of them
    where the model is called, so that nothing but the integers, their scales or values, and what is
    not compressed is written.

    Args:
        model: The model.
        weights: What `compact_weights` says of it.
    """

    def __init__(self, model: Any, weights: Mapping[str, Compact]):
        self._model = model
        self._replaced = [v for v in model.variables if v.path in weights]
        self._stored = [_stored(v.path, weights[v.path]) for v in self._replaced]
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
        outputs, _ = call_with(self._model, values, *args, **kwargs)
        return outputs


def stored_compactly(model: Any) -> Any:
    """The model to write: one with stored integers if anything is compressed, else the model."""
    weights = compact_weights(model)
    return StoredModel(model, weights) if weights else model


class StoredIntegers:
    """A kernel as a variable of integers and one of scales.

    Args:
        path: Of the variable that they stand for.
        weight: Its integers and scales.
    """

    def __init__(self, path: str, weight: QuantizedWeight):
        self._shape, self._bits = weight.values.shape, weight.bits
        self._integers = _variable(path, "integers", pack_blocks(weight.values, weight.bits))
        self._scale = _variable(path, "scale", weight.scale)
        self.variables = [self._integers, self._scale]

    def read(self) -> Any:
        """The float32 kernel: bit for bit that of the model."""
        integers = unpack_blocks(self._integers.value, self._shape, self._bits)
        return keras.ops.cast(integers, "float32") * self._scale.value


class StoredNumbers:
    """A kernel as a variable of numbers of values, and one of the values.

    Args:
        path: Of the variable that they stand for.
        weight: Its numbers and values.
    """

    def __init__(self, path: str, weight: ClusteredWeight):
        self._shape = weight.indices.shape
        self._bits = next(bits for bits in (2, 4, 8) if len(weight.values) <= 2**bits)
        # Packed bits have signs, numbers have none.
        signed = (weight.indices.astype(np.int16) - 2 ** (self._bits - 1)).astype(np.int8)
        self._numbers = _variable(path, "numbers", pack_blocks(signed, self._bits))
        self._values = _variable(path, "values", weight.values)
        self.variables = [self._numbers, self._values]

    def read(self) -> Any:
        """The float32 kernel: bit for bit that of the model."""
        ops = keras.ops
        signed = unpack_blocks(self._numbers.value, self._shape, self._bits)
        return ops.take(self._values.value, ops.cast(signed, "int32") + 2 ** (self._bits - 1))


def _stored(path: str, weight: Compact) -> StoredIntegers | StoredNumbers:
    if isinstance(weight, QuantizedWeight):
        return StoredIntegers(path, weight)
    return StoredNumbers(path, weight)


def _variable(path: str, kind: str, value: np.ndarray) -> Any:
    name = f"{path.replace('/', '.')}.{kind}"
    return keras.Variable(value, dtype=str(value.dtype), trainable=False, name=name)
