"""Weights as small integers and scales: the levels, and the scales of least squared error."""

import numpy as np

from keras_secure.arguments import is_integer
from keras_secure.errors import InputError

_CANDIDATES = 100
_ROUNDS = 10


def check_bits(bits: object) -> int:
    """Returns `bits` if it is an integer from 2 to 8, and raises `InputError` otherwise."""
    if not is_integer(bits) or not 2 <= bits <= 8:  # type: ignore[operator]
        raise InputError(f"bits={bits!r} was given; expected an integer from 2 to 8.")
    return int(bits)  # type: ignore[call-overload]


def levels(bits: int) -> tuple[int, int]:
    """The smallest and the largest integer of a weight.

    Args:
        bits: From 2 to 8.

    Returns:
        All of two's complement below 8 bits; -127 to 127 at 8 bits, as integer kernels of ONNX and
        LiteRT expect.

    Example:

    >>> levels(2), levels(8)
    ((-2, 1), (-127, 127))
    """
    most = 2 ** (bits - 1) - 1
    return (-most, most) if bits == 8 else (-most - 1, most)


def to_integers(weights: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    """The nearest levels, with halves to even.

    Args:
        weights: float32 array.
        scale: float32 array that broadcasts against it.
        bits: From 2 to 8.

    Returns:
        int8 array of the weights' shape.
    """
    least, most = levels(bits)
    return np.clip(np.rint(weights / scale), least, most).astype(np.int8)


def full_scales(weights: np.ndarray, axis: int, bits: int) -> np.ndarray:
    """The scale of each output channel with which its largest magnitude is the largest integer.

    Args:
        weights: float32 array.
        axis: The axis of output channels.
        bits: From 2 to 8.

    Returns:
        Positive float32 array with size 1 along the other axes; 1 for channels of zeros.

    Example:

    >>> full_scales(np.float32([[-3.0, -0.5, 0.0, 0.5]]), axis=0, bits=3).tolist()
    [[1.0]]
    """
    others = tuple(i for i in range(weights.ndim) if i != axis)
    reach = np.abs(weights).max(axis=others, keepdims=True)
    return np.where(reach > 0, reach / np.float32(levels(bits)[1]), 1.0).astype(np.float32)


def best_scales(weights: np.ndarray, axis: int, bits: int) -> np.ndarray:
    """The scale of each output channel with the least squared error of the rounded weights.

    Rounding to few levels is more exact where the largest weights are clipped. Scales from a tenth
    of the range to all of it are tried, and the best is refined: for given integers the scale of
    least squared error is a projection, and for a given scale the nearest integers are.

    Args:
        weights: float32 array.
        axis: The axis of output channels.
        bits: From 2 to 8.

    Returns:
        Positive float32 array with size 1 along the other axes; 1 for channels of zeros.

    Example:

    >>> best_scales(np.float32([[-1.0, -0.5, 0.0, 0.5]]), axis=0, bits=2).tolist()
    [[0.5]]
    """
    least, most = levels(bits)
    rows = np.moveaxis(np.asarray(weights, np.float64), axis, 0).reshape(weights.shape[axis], -1)
    reach = np.maximum(rows.max(1) / most, rows.min(1) / least)
    is_zero = reach <= 0
    reach[is_zero] = 1.0

    def rounded(scale):
        return np.clip(np.rint(rows / scale[:, None]), least, most)

    def error(scale, integers):
        return ((integers * scale[:, None] - rows) ** 2).sum(1)

    best, lowest = reach, error(reach, rounded(reach))
    for share in np.linspace(0.1, 1.0, _CANDIDATES, endpoint=False):
        tried = reach * share
        errors = error(tried, rounded(tried))
        best = np.where(errors < lowest, tried, best)
        lowest = np.minimum(errors, lowest)
    for _ in range(_ROUNDS):
        integers = rounded(best)
        squares = (integers**2).sum(1)
        projected = (rows * integers).sum(1) / np.where(squares > 0, squares, 1.0)
        better = (squares > 0) & (projected > 0)
        better &= error(projected, integers) < lowest
        if not better.any():
            break
        best = np.where(better, projected, best)
        lowest = error(best, rounded(best))
    shape = [1] * weights.ndim
    shape[axis] = -1
    scale = np.where(is_zero, 1.0, best).astype(np.float32)
    return np.maximum(scale, np.finfo(np.float32).tiny).reshape(shape)
