"""What is quantized in a model, as plain integers and scales: the one description exports use."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_secure.compression.kernels import Kernel, model_kernels

_MOST = 128
"""Integers of a signed byte reach from -128 to 127."""


@dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """A weight as small integers and one scale for each output channel.

    Args:
        values: int8 array of the weight's shape.
        scale: float32 array of as many axes, with size 1 along all but `axis`, so that
            `values * scale` broadcasts. Every scale is positive.
        axis: Which axis counts output channels, from 0.
        bits: The fewest bits, 2 to 8, whose two's complement range holds all values.
    """

    values: np.ndarray
    scale: np.ndarray
    axis: int
    bits: int

    def kernel(self) -> np.ndarray:
        """The float32 weight the model computes with: `values * scale`."""
        return self.values.astype(np.float32) * self.scale


def quantized_weights(model: Any) -> dict[str, QuantizedWeight]:
    """Tells which kernels of a model are integers times a scale, and gives both.

    It is read from the weights themselves, so it holds for any model that computes with such
    kernels, however it was made, saved and loaded: one that `strip` returned or that
    `quantize` changed, and one that is still in quantization-aware training. A kernel counts as
    quantized when `values * scale` in float32 is the kernel the model computes with, bit for bit.

    Args:
        model: A built Keras model.

    Returns:
        The path of each quantized kernel variable and its `QuantizedWeight`.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="top")], name="net")
    >>> model.layers[0].kernel.assign(np.float32([[0.1, 0.75], [-0.2, -0.5], [0.0, 0.25]]))
    ... # doctest: +ELLIPSIS
    <...>
    >>> found = quantized_weights(model)["net/top/kernel"]
    >>> found.values.tolist(), found.bits
    ([[1, 3], [-2, -2], [0, 1]], 3)
    """
    described = {}
    for path, kernel in model_kernels(model).items():
        found = _describe(kernel)
        if found is not None:
            described[path] = found
    return described


def factor(weights: np.ndarray, axis: int) -> QuantizedWeight | None:
    """Finds integers and scales whose product is exactly the weights.

    Args:
        weights: float32 array.
        axis: The axis of output channels; each has a scale of its own.

    Returns:
        The `QuantizedWeight` with the smallest integers in each channel, or None where no signed
        bytes do. A channel of zeros has the scale 1.
    """
    weights = np.asarray(weights)
    if weights.dtype != np.float32 or weights.size == 0 or not np.isfinite(weights).all():
        return None
    rows = np.moveaxis(weights, axis, 0)
    channels = rows.reshape(len(rows), -1)
    if (np.signbit(channels) & (channels == 0)).any():
        return None  # no integer is a negative zero
    values = np.zeros(channels.shape, np.int8)
    scales = np.ones(len(channels), np.float32)
    for i, channel in enumerate(channels):
        scale = _common_scale(channel)
        if scale is None:
            return None
        scales[i] = scale
        values[i] = np.rint(channel.astype(np.float64) / np.float64(scale)).astype(np.int8)
    shape = [1] * weights.ndim
    shape[axis] = -1
    integers = np.moveaxis(values.reshape(rows.shape), 0, axis)
    return QuantizedWeight(
        np.ascontiguousarray(integers), scales.reshape(shape), axis, bits_of(integers)
    )


def bits_of(values: np.ndarray) -> int:
    """The fewest bits, at least 2, whose two's complement range holds all of `values`.

    Args:
        values: Integers.

    Returns:
        The number of bits.
    """
    bits = 2
    while values.min() < -(2 ** (bits - 1)) or values.max() > 2 ** (bits - 1) - 1:
        bits += 1
    return bits


def _common_scale(channel: np.ndarray) -> np.float32 | None:
    """The largest scale of which every value is an exact signed byte's multiple, or None."""
    distinct = np.unique(channel)
    distinct = distinct[distinct != 0]
    if len(distinct) == 0:
        return np.float32(1.0)
    if len(distinct) > 2 * _MOST - 1:
        return None
    largest = float(np.abs(distinct).max())
    # The largest value is k times the scale, rounded once: k leaves a few float32 scales to try.
    counts = np.arange(1, _MOST + 1)
    nearest = (largest / counts).astype(np.float32)
    tries = [nearest]
    below = above = nearest
    for _ in range(2):
        below = np.nextafter(below, np.float32(0))
        above = np.nextafter(above, np.float32(np.inf))
        tries += [below, above]
    # In the order of k, so that the smallest integers win.
    scales = np.stack(tries, axis=1).ravel()
    scales = scales[scales > 0]
    multiples = np.rint(distinct.astype(np.float64)[None] / scales.astype(np.float64)[:, None])
    exact = multiples.astype(np.float32) * scales[:, None] == distinct[None]
    fits = (exact & (multiples >= -_MOST) & (multiples <= _MOST - 1)).all(axis=1)
    return scales[int(fits.argmax())] if fits.any() else None


def _describe(kernel: Kernel) -> QuantizedWeight | None:
    if kernel.trained is not None:
        return kernel.trained.quantized()
    if keras.backend.standardize_dtype(kernel.variable.dtype) != "float32":
        return None
    return factor(keras.ops.convert_to_numpy(kernel.variable), kernel.axis)
