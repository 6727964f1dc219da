"""Replacing an attribute of a layer for a while."""

import contextlib

_ABSENT = object()


@contextlib.contextmanager
def replaced(layer, name, value):
    """Sets `layer.name` to `value` and puts back what was there, also after an exception."""
    # `object.__setattr__` keeps the replacement out of Keras' and TensorFlow's tracking.
    previous = layer.__dict__.get(name, _ABSENT)
    object.__setattr__(layer, name, value)
    try:
        yield
    finally:
        if previous is _ABSENT:
            object.__delattr__(layer, name)
        else:
            object.__setattr__(layer, name, previous)
