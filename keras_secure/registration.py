"""One decorator that makes a component loadable by Keras and listed by the package."""

from typing import TypeVar

import keras

T = TypeVar("T", bound=type)

COMPONENTS: dict[str, type] = {}
"""Every registered component by its dotted public name, filled as rooms are imported."""


def component(room: str):
    """Registers a class with Keras serialization and lists it as public in `room`.

    Args:
        room: The public room, for example `"layers"` for `keras_secure.layers`.

    Returns:
        A class decorator. Files saved by Keras name the class `keras_secure>ClassName`.

    Example:

    >>> @component("layers")
    ... class Identity(keras.layers.Layer):
    ...     pass
    >>> keras.saving.get_registered_name(Identity)
    'keras_secure>Identity'
    >>> _ = COMPONENTS.pop("layers.Identity")
    """

    def register(cls: T) -> T:
        COMPONENTS[f"{room}.{cls.__name__}"] = cls
        return keras.saving.register_keras_serializable(package="keras_secure")(cls)

    return register
