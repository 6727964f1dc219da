"""Arrays as pictures inside a page."""

import base64
import struct
import zlib

import numpy as np


def is_picture(array) -> bool:
    """Whether an array has the shape of an image: (h, w), (h, w, 1) or (h, w, 3).

    >>> is_picture(np.zeros((8, 8, 1))), is_picture(np.zeros((30,)))
    (True, False)
    """
    shape = np.shape(array)
    return 0 not in shape and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3)))


def png_data_uri(array) -> str:
    """An image as a `data:` URI holding a PNG, pixel for pixel.

    Args:
        array: Shape (h, w), (h, w, 1) or (h, w, 3), values in [0, 1]; others are clipped, NaN is 0.

    Returns:
        The URI.

    Raises:
        ValueError: If the shape is not an image's.

    Example:

    >>> png_data_uri(np.zeros((2, 2)))[:30]
    'data:image/png;base64,iVBORw0K'

    Reference: Portable Network Graphics, W3C Recommendation, sections 5 and 11.
    """
    if not is_picture(array):
        raise ValueError(
            f"Shape {np.shape(array)} is not an image's; expected (h, w), (h, w, 1) or (h, w, 3)."
        )
    values = np.nan_to_num(np.asarray(array, dtype=np.float64), nan=0.0, posinf=1.0, neginf=0.0)
    pixels = np.rint(255.0 * np.clip(values, 0.0, 1.0)).astype(np.uint8)
    height, width = pixels.shape[:2]
    colour_type = 2 if pixels.ndim == 3 and pixels.shape[2] == 3 else 0
    # Each row starts with its filter type; zero means the bytes are stored as they are.
    rows = np.concatenate(
        [np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1
    ).tobytes()
    png = (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0))
        + _chunk(b"IDAT", zlib.compress(rows, 9))
        + _chunk(b"IEND", b"")
    )
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def change_picture(original, adversarial) -> np.ndarray:
    """What an attack added, stretched to full contrast around middle grey.

    Args:
        original: An image.
        adversarial: The same image after the attack.

    Returns:
        Values in [0, 1]; 0.5 where nothing changed.

    Example:

    >>> change_picture(np.array([[0.5, 0.5]]), np.array([[0.5, 0.6]])).round(2)
    array([[0.5, 1. ]])
    """
    moved = np.asarray(adversarial, np.float64) - np.asarray(original, np.float64)
    largest = np.max(np.abs(moved), initial=0.0)
    return np.full_like(moved, 0.5) if largest == 0.0 else 0.5 + moved / (2.0 * largest)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
