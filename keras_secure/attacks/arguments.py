"""Checks of arguments that several attacks take."""

from keras_secure.arguments import check_integer, check_number
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
        check_integer(name, value)


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
        check_number(name, value, "(0, inf)" if above_zero else "[0, inf)")
