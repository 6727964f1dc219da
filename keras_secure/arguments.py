"""What counts as a number among the arguments of a call, what as an image, and how others fail."""

import numbers
import operator

from keras_secure.errors import InputError


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


def check_integer(name, value, least=1, most=None):
    """Returns an argument that must be an integer.

    Args:
        name: The argument's name.
        value: What was given.
        least: The smallest that can be used.
        most: The largest that can be used; None for any.

    Returns:
        It, as an `int`.

    Raises:
        InputError: It is none, or out of range.

    Example:

    >>> check_integer("steps", 3)
    3
    >>> check_integer("bits", 9, 2, 8)
    Traceback (most recent call last):
        ...
    keras_secure.errors.InputError: bits=9 cannot be used: give an integer from 2 to 8.
    """
    if not is_integer(value) or value < least or (most is not None and value > most):
        fitting = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"{name}={value!r} cannot be used: give an integer {fitting}.")
    return int(value)


def check_number(name, value, interval):
    """Returns an argument that must be a number.

    Args:
        name: The argument's name.
        value: What was given.
        interval: Where it must lie, such as `"(0, 1]"` or `"[0, inf)"`; a round bracket leaves the
            end out.

    Returns:
        It, as a `float`.

    Raises:
        InputError: It is none, NaN, or elsewhere.

    Example:

    >>> check_number("share", 1, "(0, 1]")
    1.0
    >>> check_number("share", 0, "(0, 1]")
    Traceback (most recent call last):
        ...
    keras_secure.errors.InputError: share=0 cannot be used: give a number in (0, 1].
    """
    low, high = map(float, interval[1:-1].split(","))
    above = operator.le if interval[0] == "[" else operator.lt
    below = operator.le if interval[-1] == "]" else operator.lt
    if not is_number(value) or not (above(low, value) and below(value, high)):
        raise InputError(f"{name}={value!r} cannot be used: give a number in {interval}.")
    return float(value)


def check_channels_last(owner, data_format):
    """Refuses to read images where Keras was told that their channels come first.

    Read as (height, width, channels) all the same, a picture would be smoothed, resized or turned
    across its colours, and nobody would notice.

    Args:
        owner: Name of what reads the images, for the message.
        data_format: What `keras.config.image_data_format()` says.

    Raises:
        InputError: If it is `"channels_first"`.

    Example:

    >>> check_channels_last("MedianSmoothing", "channels_last")
    """
    if data_format == "channels_first":
        raise InputError(
            f"{owner} reads images as (batch, height, width, channels), and Keras is configured "
            "for channels_first. Call keras.config.set_image_data_format('channels_last'), and "
            "give images in that order; a model of layers with data_format='channels_first' gets "
            "them back by keras.layers.Permute((3, 1, 2))."
        )
