"""What a model makes of its inputs before it decides."""

import keras
import numpy as np
from keras import ops

from keras_secure.arguments import check_channels_last
from keras_secure.errors import InputError


def feature_model(model, layers=None):
    """A model that gives the outputs of some layers as vectors.

    Args:
        model: Sequential or functional Keras model.
        layers: Names of layers, a list or one name; None for what the last layer with weights is
            given (the penultimate features).

    Returns:
        A `keras.Model` that returns a tensor of shape (batch, features), or a list of them where
        several layers are named. Feature maps are averaged over their positions.

    Raises:
        InputError: If the model has no graph of layers, or no such layer.

    Example:

    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, name="hidden"), keras.layers.Dense(2)])
    >>> tuple(feature_model(model)(ops.zeros((5, 4))).shape)
    (5, 3)
    """
    if not getattr(model, "inputs", None):
        raise InputError(
            f"Model {model.name!r} ({type(model).__name__}) has no graph of layers to read "
            "features from; expected a Sequential or functional model. For others compute the "
            "features yourself and pass them to `inspect_features`, or wrap the part to look at "
            "in a functional model."
        )
    if layers is None:
        with_weights = [layer for layer in model.layers if layer.weights]
        if not with_weights:
            raise InputError(f"Model {model.name!r} has no layer with weights; name a layer.")
        tensors = [with_weights[-1].input]
    else:
        names = [layers] if isinstance(layers, str) else list(layers)
        known = {layer.name: layer for layer in model.layers}
        missing = [name for name in names if name not in known]
        if missing or not names:
            raise InputError(
                f"Model {model.name!r} has no layers {missing}; it has {', '.join(known)}."
            )
        tensors = [known[name].output for name in names]
    pooled = []
    for tensor in tensors:
        if len(tensor.shape) == 4:
            check_channels_last(
                "The mean over the positions of a feature map", keras.config.image_data_format()
            )
        if len(tensor.shape) > 2:
            tensor = ops.mean(tensor, axis=tuple(range(1, len(tensor.shape) - 1)))
        pooled.append(tensor)
    return keras.Model(model.inputs, pooled if len(pooled) > 1 else pooled[0])


def layer_features(model, x, layer=None, batch_size=512):
    """Features of whole arrays, computed once.

    Args:
        model: Sequential or functional Keras model.
        x: Inputs, shape (num_examples, ...).
        layer: Name of the layer; None for the penultimate features.
        batch_size: Examples per forward pass.

    Returns:
        float32 array of shape (num_examples, features).

    Raises:
        InputError: As `feature_model`, or if there is no example.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> layer_features(model, np.ones((5, 4), "float32")).shape
    (5, 4)
    """
    features = feature_model(model, layer)
    if not isinstance(x, (list, tuple, dict)):
        x = np.asarray(x)
        if x.ndim < 1 or not len(x):
            raise InputError(
                f"x has type {x.dtype} and shape {x.shape}; expected an array with at least one "
                "example. Gather the examples of a dataset or a generator in one array first."
            )
        # A ReLU may swallow NaN, and the features would look like those of any input.
        if "float" in str(x.dtype) and not np.isfinite(x).all():
            raise InputError("x holds NaN or infinity. Leave those examples out.")
    return np.asarray(features.predict(x, batch_size=batch_size, verbose=0), "float32")
