"""What of a marked weight may be looked at before the mark is read."""

import numpy as np

from keras_secure.errors import InputError
from keras_secure.watermark.carriers import random_bits
from keras_secure.watermark.mark import Mark
from keras_secure.watermark.spread_spectrum import SpreadSpectrum
from keras_secure.watermark.uchida import Uchida


def halves(mark: Mark, shape: tuple[int, ...], copy: int = 0) -> np.ndarray:
    """Deals the values of a marked weight to two halves.

    Args:
        mark: The mark.
        shape: The weight's shape.
        copy: The weight's number among the marked ones of its shape.

    Returns:
        A boolean array of that shape, drawn from the key.
    """
    size = int(np.prod(shape))
    return (
        random_bits(mark.key, mark.purpose("halves", shape, copy), size).astype(bool).reshape(shape)
    )


def unmarked(weights, mark: Mark, copy: int, half: np.ndarray) -> np.ndarray:
    """Projects the mark's directions out of one half of a weight's values.

    What is left reads neither 1 nor 0 for any bit, and is the same whichever message was embedded:
    turning a carrier round turns the mark and leaves the projection. Whatever is chosen by looking
    at what is left is therefore chosen without looking at the message.

    Args:
        weights: Array of the shape that the mark was put on.
        mark: The mark with its key.
        copy: The weight's number among the marked ones of its shape.
        half: Boolean array of that shape: the values that are meant.

    Returns:
        A float64 array of that shape, zero in the other half.

    Raises:
        InputError: The kind of mark is unknown.

    Example:

    >>> mark = SpreadSpectrum("a secret", num_bits=16)
    >>> weight = np.random.default_rng(0).normal(size=(32, 32))
    >>> left = unmarked(weight, mark, 0, halves(mark, (32, 32)))
    >>> float(abs(mark.scores(left)).max()) < 1e-9
    True
    """
    values = np.where(half, np.asarray(weights, np.float64), 0.0)
    mark.check_shape(values.shape)
    if isinstance(mark, SpreadSpectrum):
        carrier, shares = mark._carrier(values.shape, copy)
        signs = np.sign(carrier).astype(np.float64)
        sums = np.bincount(shares, values.ravel() * signs, mark.num_bits)
        counts = np.bincount(shares, half.ravel(), mark.num_bits)
        means = sums / np.maximum(counts, 1)
        return values - np.where(half, (means[shares] * signs).reshape(values.shape), 0.0)
    if isinstance(mark, Uchida):
        # A bit reads the sums over the filters; the least change that leaves it nothing to read
        # moves all values of a sum alike.
        rows = mark._projection(values.shape, copy).astype(np.float64)
        wide = values.reshape(rows.shape[1], -1)
        counts = np.sqrt(half.reshape(wide.shape).sum(axis=1))
        weighted = rows * counts
        moved = np.linalg.pinv(weighted) @ (rows @ wide.sum(axis=1)) / np.maximum(counts, 1)
        return np.where(half, (wide - moved[:, None]).reshape(values.shape), 0.0)
    raise InputError(
        f"A {type(mark).__name__} has directions that are not known here; align for a "
        "SpreadSpectrum or Uchida mark."
    )
