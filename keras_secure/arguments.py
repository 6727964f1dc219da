"""What counts as a number among the arguments of a call."""

import numbers


def is_integer(value):
    """Whether `value` is an integer, of Python or NumPy, and no boolean.

    Args:
        value: Anything.

    Returns:
        True or False.

    Example:

    >>> is_integer(3), is_integer(3.0), is_integer(True)
    (True, False, False)
    """
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value):
    """Whether `value` is a real number, of Python or NumPy, and no boolean.

    Args:
        value: Anything.

    Returns:
        True or False. NaN and infinity are numbers here.

    Example:

    >>> is_number(0.5), is_number("0.5"), is_number(False)
    (True, False, False)
    """
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
