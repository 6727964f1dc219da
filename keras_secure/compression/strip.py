"""From a model that trains compressed back to an ordinary one."""

from typing import Any

import keras

from keras_secure.compression.compressed_layer import CompressedLayer
from keras_secure.compression.rebuild import rebuild
from keras_secure.errors import InputError


def strip(model: Any) -> keras.Model:
    """Makes an ordinary Keras model of one that trains compressed, with the same outputs.

    The kernels of the new model are those that the old one computes with, to the last bit;
    `quantized_weights` tells their integers and scales, `clustered_weights` their shared values.
    Where inputs of layers are rounded, the new model is a functional one in which operations of
    Keras round them.

    Args:
        model: What `quantize_aware` or `cluster_aware` returned, trained or not.

    Returns:
        A model of Keras' own layers, which saves and loads without this library.

    Raises:
        InputError: Nothing in the model trains compressed.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> from keras_secure.compression import quantize_aware
    >>> trained = quantize_aware(model, bits=2)
    >>> x = np.random.default_rng(0).random((3, 8), "float32")
    >>> bool((strip(trained).predict(x, verbose=0) == trained.predict(x, verbose=0)).all())
    True
    """
    parts = model._flatten_layers() if isinstance(model, keras.Model) else ()
    if not any(isinstance(layer, CompressedLayer) for layer in parts):
        raise InputError(
            "No layer of this model trains compressed, so there is nothing to strip. Give what "
            "quantize_aware or cluster_aware returned; of a SecureModel, its `model`."
        )
    copy, pairs = rebuild(
        model,
        lambda layer: layer.plain_layer() if isinstance(layer, CompressedLayer) else None,
        _plain_rounding,
    )
    for layer, new in pairs:
        for name in layer._full:
            getattr(new, name).assign(layer.compressed_kernel(name))
    return copy


def _plain_rounding(layer: Any) -> Any:
    rounding = layer.rounded_inputs if isinstance(layer, CompressedLayer) else None
    return None if rounding is None else rounding.plain
