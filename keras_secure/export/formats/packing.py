"""Small integers, several to a byte."""

from typing import Any

import keras
import numpy as np


def pack_pairs(values: np.ndarray) -> bytes:
    """Integers of 4 bits as ONNX and LiteRT keep them: neighbours in a byte, the first lower.

    Args:
        values: int8 array, -8 to 7.

    Returns:
        Half as many bytes, rounded up.

    Example:

    >>> [f"{byte:08b}" for byte in pack_pairs(np.array([1, -1, 3], np.int8))]
    ['11110001', '00000011']
    """
    flat = values.reshape(-1).astype(np.uint8) & 0x0F
    flat = np.append(flat, np.zeros(len(flat) % 2, np.uint8))
    return (flat[::2] | (flat[1::2] << 4)).tobytes()


def pack_blocks(values: np.ndarray, bits: int) -> np.ndarray:
    """Integers as bytes in an order that a graph unpacks fast: whole blocks over one another.

    Args:
        values: int8 array.
        bits: How many bits in two's complement hold all of them.

    Returns:
        `values` if more than 4 bits are needed, else a flat int8 array.

    Example:

    >>> [f"{byte:08b}" for byte in pack_blocks(np.array([1, -1, 0, -2, 1], np.int8), 2).tobytes()]
    ['00010001', '00001011']
    >>> unpacked = unpack_blocks(pack_blocks(np.array([1, -1, 0, -2, 1], np.int8), 2), (5,), 2)
    >>> keras.ops.convert_to_numpy(unpacked).tolist()
    [1, -1, 0, -2, 1]
    """
    width = _width(bits)
    if width == 8:
        return np.ascontiguousarray(values)
    flat = values.reshape(-1).astype(np.uint8) & (2**width - 1)
    blocks = np.append(flat, np.zeros(-len(flat) % (8 // width), np.uint8)).reshape(8 // width, -1)
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    return np.bitwise_or.reduce(blocks << shifts, axis=0).view(np.int8)


def unpack_blocks(packed: Any, shape: tuple[int, ...], bits: int) -> Any:
    """What `pack_blocks` packed, as an int8 tensor of that shape; traceable."""
    ops, width = keras.ops, _width(bits)
    if width == 8:
        return packed
    packed = ops.convert_to_tensor(packed)
    # Shifted to the top and back, an integer takes its sign with it.
    blocks = [
        ops.right_shift(ops.left_shift(packed, _byte(8 - width - place)), _byte(8 - width))
        for place in range(0, 8, width)
    ]
    return ops.reshape(ops.concatenate(blocks)[: int(np.prod(shape))], shape)


def _byte(number: int) -> Any:
    return keras.ops.convert_to_tensor(number, dtype="int8")


def _width(bits: int) -> int:
    """The bits that are spent on an integer: a part of a byte."""
    return next(width for width in (2, 4, 8) if bits <= width)
