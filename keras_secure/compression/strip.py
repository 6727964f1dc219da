"""From a model that trains compressed back to an ordinary one."""

from typing import Any

import keras

from keras_secure.compression.code_copy import code_copy
from keras_secure.compression.compressed_layer import CompressedLayer
from keras_secure.compression.compressed_model import CompressedModel
from keras_secure.compression.kernels import inner_kernels
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
        A model of Keras' own layers, or of the class that was given first, which saves and loads
        without this library.

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
    if not any(isinstance(layer, (CompressedLayer, CompressedModel)) for layer in parts):
        raise InputError(
            "No layer of this model trains compressed, so there is nothing to strip. Give what "
            "quantize_aware or cluster_aware returned; of a SecureModel, its `model`."
        )
    copy, pairs = rebuild(model, _plain, _plain_rounding)
    for layer, new in pairs:
        if isinstance(layer, CompressedModel):
            continue
        for name, trained in layer.trained_kernels.items():
            getattr(new, name).assign(trained.weights())
    return copy


def _plain(layer: Any) -> Any:
    if isinstance(layer, CompressedLayer):
        return layer.plain_layer()
    if not isinstance(layer, CompressedModel):
        made = [p.name for p in layer._flatten_layers() if isinstance(p, CompressedLayer)]
        if made:
            raise InputError(
                f"{', '.join(made)} were made by the code of {layer.name!r}, a "
                f"{type(layer).__name__}, which makes them each time. Build that with ordinary "
                "layers and assign their kernels: quantized_weights and clustered_weights tell "
                "them. Export needs no strip."
            )
        return None
    new = code_copy(layer.part)
    kernels = inner_kernels(new)
    for number, trained in layer.trained_kernels.items():
        kernels[int(number)].variable.assign(trained.weights())
    return new


def _plain_rounding(layer: Any) -> Any:
    rounding = layer.rounded_inputs if isinstance(layer, CompressedLayer) else None
    return None if rounding is None else rounding.plain
