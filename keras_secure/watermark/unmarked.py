"""A weight without anything that its mark's directions hold."""

import numpy as np

from keras_secure.errors import InputError
from keras_secure.watermark.mark import Mark
from keras_secure.watermark.spread_spectrum import SpreadSpectrum
from keras_secure.watermark.uchida import Uchida


def unmarked(weights, mark: Mark, copy: int = 0) -> np.ndarray:
    """Projects the mark's directions out of a weight.

    What is left reads neither 1 nor 0 for any bit, and is the same whichever message was embedded:
    turning a carrier round turns the mark and leaves the projection. Whatever is chosen by looking
    at what is left is therefore chosen without looking at the message.

    Args:
        weights: Array of the shape that the mark was put on.
        mark: The mark with its key.
        copy: The weight's number among the marked ones of its shape.

    Returns:
        A float64 array of that shape.

    Raises:
        InputError: The kind of mark is unknown.

    Example:

    >>> mark = SpreadSpectrum("a secret", num_bits=16)
    >>> weight = np.random.default_rng(0).normal(size=(32, 32))
    >>> float(abs(mark.scores(unmarked(weight, mark))).max()) < 1e-9
    True
    """
    values = np.asarray(weights, np.float64)
    mark.check_shape(values.shape)
    if isinstance(mark, SpreadSpectrum):
        carrier, shares = mark._carrier(values.shape, copy)
        signs = np.sign(carrier).astype(np.float64)
        sums = np.bincount(shares, values.ravel() * signs, mark.num_bits)
        means = sums / np.bincount(shares, minlength=mark.num_bits)
        return values - (means[shares] * signs).reshape(values.shape)
    if isinstance(mark, Uchida):
        rows = mark._projection(values.shape, copy).astype(np.float64)
        mean = (values.mean(axis=-1) if values.ndim > 1 else values).ravel()
        held = np.linalg.lstsq(rows @ rows.T, rows @ mean, rcond=None)[0] @ rows
        return values - (held.reshape(*values.shape[:-1], 1) if values.ndim > 1 else held)
    raise InputError(
        f"A {type(mark).__name__} has directions that are not known here; align for a "
        "SpreadSpectrum or Uchida mark."
    )
