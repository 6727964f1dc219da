"""Checks of arguments that several attacks take."""

import math

from keras_secure.arguments import is_integer, is_number
from keras_secure.errors import InputError


def check_counts(**counts):
    """Refuses what is no integer of at least 1.

    Args:
        **counts: Arguments by name.

    Raises:
        InputError: If one cannot be used.

    Example:

    >>> check_counts(steps=3)
    """
    for name, value in counts.items():
        if not is_integer(value) or value < 1:
            raise InputError(f"{name}={value!r} cannot be used: it must be an integer >= 1.")


def check_flags(**flags):
    """Refuses what is neither True nor False.

    Args:
        **flags: Arguments by name.

    Raises:
        InputError: If one cannot be used.

    Example:

    >>> check_flags(random_start=True)
    """
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise InputError(f"{name}={value!r} cannot be used: it must be True or False.")


def check_sizes(*, above_zero=True, **sizes):
    """Refuses what is no finite number above zero (or at least zero).

    Args:
        above_zero: Whether zero is refused, too.
        **sizes: Arguments by name.

    Raises:
        InputError: If one cannot be used.

    Example:

    >>> check_sizes(step_size=0.1)
    """
    for name, value in sizes.items():
        fits = is_number(value) and 0 <= value < math.inf and (value > 0 or not above_zero)
        if not fits:
            least = "> 0" if above_zero else ">= 0"
            raise InputError(f"{name}={value!r} cannot be used: it must be a number {least}.")
