"""The inputs among which triggers stand: their kind, shape, bounds or vocabulary.

Each function returns what was given in one form, and raises `InputError` where it cannot be used.
"""

import math

import numpy as np

from keras_secure.arguments import is_integer
from keras_secure.errors import InputError
from keras_secure.watermark.trigger_patterns import KINDS


def checked_shape(shape):
    """The shape of one input, as a tuple of integers; a single number is the shape of a row."""
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if not sizes or not all(is_integer(size) and size >= 1 for size in sizes):
        raise InputError(
            f"shape={shape!r} was given; positive integers were expected, the shape of one input."
        )
    return tuple(int(size) for size in sizes)


def checked_kind(kind, shape, vocabulary):
    """What the inputs are, told by their shape and whether there is a vocabulary if not given."""
    if kind is None:
        kind = "tokens" if vocabulary is not None else {1: "table"}.get(len(shape), "image")
    ranks = {"image": (2, 3), "series": (1, 2), "table": (1,), "tokens": (1,)}
    if kind not in KINDS:
        raise InputError(f"kind={kind!r} was given; one of {', '.join(KINDS)} was expected.")
    if len(shape) not in ranks[kind]:
        raise InputError(
            f"Inputs of shape {shape} cannot be of kind {kind!r}, whose shapes have "
            f"{' or '.join(map(str, ranks[kind]))} axes. Give another `kind` or `shape`."
        )
    return kind


def checked_vocabulary(vocabulary, kind):
    """(low, high) of the tokens, `high` excluded; None for numbers."""
    if (kind == "tokens") != (vocabulary is not None):
        raise InputError("Triggers of kind 'tokens', and only those, need a `vocabulary`.")
    if vocabulary is None:
        return None
    pair = (1, vocabulary) if is_integer(vocabulary) else tuple(vocabulary)
    if len(pair) != 2 or not all(map(is_integer, pair)) or not 0 <= pair[0] < pair[1] - 1:
        raise InputError(
            f"vocabulary={vocabulary!r} was given; expected the number of tokens, or (low, high) "
            "with at least two tokens between."
        )
    return int(pair[0]), int(pair[1])


def checked_bounds(bounds, shape):
    """(low, high) of the numbers, as float64 arrays that broadcast to `shape`."""
    try:
        low, high = (np.asarray(bound, np.float64) for bound in bounds)
        fits = np.broadcast_shapes(low.shape, high.shape, shape) == shape
        fits = fits and math.isfinite(low.sum()) and math.isfinite(high.sum())
    except (TypeError, ValueError):
        fits = False
    if not fits or np.any(low > high) or np.all(low == high):
        raise InputError(
            "The bounds cannot be used; give (low, high) with low below high, numbers or arrays "
            f"that broadcast to {shape}."
        )
    return low, high
