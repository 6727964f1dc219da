"""How often a callback that reads marks does so."""

import operator
from typing import Any

from keras_secure.errors import InputError


def check_every(every: Any) -> int:
    """Returns a positive number of epochs.

    Args:
        every: Epochs between two readings.

    Returns:
        It, as an integer.

    Raises:
        InputError: It is none, or not positive.

    Example:

    >>> check_every(2)
    2
    """
    try:
        number = operator.index(every)
    except TypeError:
        number = 0
    if number < 1:
        raise InputError(f"every={every!r} was given; a positive number of epochs is expected.")
    return number
