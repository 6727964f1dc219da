"""Quantization after training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_secure.compression.choose import choose_kernels
from keras_secure.compression.integers import best_scales, check_bits, full_scales, to_integers
from keras_secure.compression.quantized_weights import QuantizedWeight, bits_of
from keras_secure.errors import InputError


def quantize(
    model: Any,
    bits: int = 8,
    *,
    clip: bool = True,
    layers: str | Sequence[str] | None = None,
) -> dict[str, QuantizedWeight]:
    """Rounds each kernel to integers times a scale for each output channel, in place.

    It needs no data and no training; 8 bits cost next to nothing in accuracy, and below 4 bits
    `quantize_aware` and some training do much better.

    Args:
        model: A built Keras model, of any kind.
        bits: From 2 to 8.
        clip: Whether the scales are those of least squared error, which clips the largest weights
            where bits are few; otherwise the largest weight of a channel is the largest integer.
        layers: Names of the layers to quantize; by default all Dense, EinsumDense and convolution
            layers, those inside composite layers included.

    Returns:
        The `QuantizedWeight` of each kernel, by its variable's path. `bits` in it may be lower than
        asked where no value needs more.

    Raises:
        InputError: An argument cannot be used, a kernel is not float32 or not finite, or the model
            has none.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="top")], name="net")
    >>> quantized = quantize(model, bits=4)["net/top/kernel"]
    >>> bool((quantized.kernel() == model.layers[0].kernel.numpy()).all())
    True

    Reference:
        Krishnamoorthi 2018 (arXiv 1806.08342), section 3, for scales by channel; Banner et al. 2019
        (arXiv 1810.05723), section 2, for clipping.
    """
    check_bits(bits)
    kernels = choose_kernels(model, layers)
    described = {}
    for path, kernel in kernels.items():
        weights = np.asarray(ops.convert_to_numpy(kernel.variable))
        if weights.dtype != np.float32 or not np.isfinite(weights).all():
            raise InputError(
                f"{path} has dtype {weights.dtype}"
                + (" and values that are not finite" if weights.dtype == np.float32 else "")
                + "; finite float32 weights can be quantized."
            )
        choose = best_scales if clip else full_scales
        scale = choose(weights, kernel.axis, bits)
        integers = to_integers(weights, scale, bits)
        described[path] = QuantizedWeight(integers, scale, kernel.axis, bits_of(integers))
    # Only now, so that an error leaves the model as it was.
    for path, kernel in kernels.items():
        kernel.variable.assign(described[path].kernel())
    return described
