"""Small integers, several to a byte."""

import numpy as np


def width_of(bits: int) -> int:
    """The bits that are spent on an integer of so many bits: 2, 4 or 8."""
    return next(width for width in (2, 4, 8) if bits <= width)


def pack(values: np.ndarray, width: int) -> np.ndarray:
    """Integers as bytes, the first in the low bits of each.

    Args:
        values: int8 array.
        width: 2, 4 or 8: how many bits in two's complement each gets.

    Returns:
        `values` for 8, else a flat uint8 array; what is left over in the last byte is 0.

    Example:

    >>> [f"{byte:08b}" for byte in pack(np.array([1, -1, 0, -2, 1], np.int8), 2)]
    ['10001101', '00000001']
    """
    if width == 8:
        return np.ascontiguousarray(values)
    count = 8 // width
    flat = values.reshape(-1).astype(np.uint8) & (2**width - 1)
    flat = np.append(flat, np.zeros(-len(flat) % count, np.uint8)).reshape(-1, count)
    return np.bitwise_or.reduce(flat << (width * np.arange(count, dtype=np.uint8)), axis=1)
