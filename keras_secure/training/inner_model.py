"""The model that others mean, whether it is wrapped or not."""

from typing import Any

from keras_secure.training.secure_model import SecureModel


def inner_model(model: Any) -> Any:
    """Returns the model inside a `SecureModel`; any other model is returned as it is.

    What reads weights, layers or outputs wants the wrapped model: paths of weights are its own, and
    whether it answers with logits shows on it alone.

    Args:
        model: A `keras.Model`, or a `SecureModel` around one.

    Returns:
        The model.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> inner_model(SecureModel(model)) is inner_model(model) is model
    True
    """
    return model.model if isinstance(model, SecureModel) else model
