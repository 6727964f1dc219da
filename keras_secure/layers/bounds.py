"""The range that inputs may have."""

import math

from keras_secure.errors import InputError


def checked_bounds(owner, bounds):
    """Returns `bounds` as a pair of Python numbers, or refuses it.

    Args:
        owner: Name of the layer, for the message.
        bounds: Pair of finite numbers (low, high) with low < high. Integers stay integers, so
            that large ones stay exact.

    Returns:
        A tuple (low, high).

    Raises:
        InputError: If it is anything else.
    """
    try:
        low, high = (bound if isinstance(bound, int) else float(bound) for bound in bounds)
    except (TypeError, ValueError):
        low = high = math.nan
    if not -math.inf < low < high < math.inf:
        raise InputError(
            f"{owner} got bounds={bounds!r}; expected a pair (low, high) of finite numbers with "
            "low < high, the range that inputs may have."
        )
    return (low, high)
