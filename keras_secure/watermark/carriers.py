"""From a secret key to the numbers that hide a message, the same on every host.

Numpy promises stable raw words from a bit generator and not stable values from its distributions,
so signs, orders and normal values are made from the raw words here.
"""

import hashlib
import hmac

import numpy as np

VERSION = "keras_secure.watermark.v1"


def raw_words(key: bytes, purpose: str, count: int) -> np.ndarray:
    """Draws 64-bit words that only the holder of `key` can predict.

    Args:
        key: The secret.
        purpose: What the words are for; each purpose has a stream of its own.
        count: How many words.

    Returns:
        A uint64 array of shape (count,).
    """
    seed = hmac.new(key, f"{VERSION}|{purpose}".encode(), hashlib.sha256).digest()
    return np.random.Philox(key=int.from_bytes(seed[:16], "little")).random_raw(count)


def random_bits(key: bytes, purpose: str, count: int) -> np.ndarray:
    """Fair coins: an int8 array of shape (count,) with values 0 and 1."""
    words = raw_words(key, purpose, -(-count // 64)).astype("<u8")
    return np.unpackbits(words.view(np.uint8), count=count, bitorder="little").astype(np.int8)


def random_order(key: bytes, purpose: str, count: int) -> np.ndarray:
    """A permutation of `range(count)`."""
    return np.argsort(raw_words(key, purpose, count), kind="stable")


def standard_normal(key: bytes, purpose: str, shape: tuple[int, ...]) -> np.ndarray:
    """Independent float32 standard normal values (Box and Muller's transform)."""
    count = int(np.prod(shape))
    half = -(-count // 2)
    # 53 bits fill a float64; one is added so that the logarithm never sees zero.
    uniform = ((raw_words(key, purpose, 2 * half) >> np.uint64(11)) + np.uint64(1)) * 2.0**-53
    radius = np.sqrt(-2.0 * np.log(uniform[:half]))
    angle = 2.0 * np.pi * uniform[half:]
    values = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    return values[:count].reshape(shape).astype(np.float32)
