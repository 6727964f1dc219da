"""Keyed noise from a cryptographic generator: ChaCha20 (RFC 8439), shaped by Box and Muller."""

import tensorflow as tf

from keras_secure.backend.tensorflow.graph import fused
from keras_secure.backend.tensorflow.noise import box_muller

_CONSTANTS = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)
# Each value is the sum of this many independent normal draws, over the square root of their number
# (Holohan and Braghin 2021, arXiv 2107.10138): inverting the float arithmetic of one draw tells an
# observer which sums a released value can have come from; inverting that of four is infeasible.
_TERMS = 4
_BLOCK_WORDS = 16
# Blocks are drawn in multiples of this, so that small models share one compilation.
_BLOCK_STEP = 64


def secure_normal(size, stddev, key, counter):
    """See `contract.Backend.secure_normal`."""
    words = tf.reshape(tf.bitcast(tf.convert_to_tensor(key), tf.uint32), (8,))
    position = tf.bitcast(tf.cast(counter, tf.int64), tf.uint32)
    nonce = tf.stack([position[0], position[1], tf.zeros((), tf.uint32)])
    blocks = -(-size * _TERMS // (_BLOCK_WORDS * _BLOCK_STEP)) * _BLOCK_STEP
    random = fused(chacha20)(words, nonce, blocks)
    return tf.concat(fused(_sums)(random, tf.cast(stddev, tf.float32)), axis=0)[:size]


def _sums(random, stddev):
    """Four pairs of words become two values, each the sum of one draw from every pair."""
    first, second = (
        tf.bitcast(half, tf.float32) for half in tf.split(tf.reshape(random, (2 * _TERMS, -1)), 2)
    )
    cosines, sines = box_muller(tf.complex(first, second), stddev * _TERMS**-0.5)
    return (
        cosines[0] + cosines[1] + sines[2] + sines[3],
        sines[0] + sines[1] + cosines[2] + cosines[3],
    )


def chacha20(key, nonce, num_blocks, first_block=0):
    """The key stream of RFC 8439, section 2.3, for many blocks at once.

    Args:
        key: uint32 tensor of shape (8,).
        nonce: uint32 tensor of shape (3,).
        num_blocks: Number of blocks.
        first_block: Number of the first one.

    Returns:
        uint32 tensor of shape (16, num_blocks): the words of each block in a column.
    """
    zeros = tf.zeros([num_blocks], tf.uint32)
    numbers = tf.cast(tf.range(first_block, first_block + num_blocks), tf.uint32)
    start = (
        tf.stack([zeros + _word(constant) for constant in _CONSTANTS]),
        tf.stack([zeros + key[index] for index in range(4)]),
        tf.stack([zeros + key[index] for index in range(4, 8)]),
        tf.stack([numbers, *[zeros + nonce[index] for index in range(3)]]),
    )
    # A loop: unrolled, XLA would compute shared words anew for every use.
    _, *end = tf.while_loop(
        lambda turn, *rows: turn < 10,
        lambda turn, *rows: (turn + 1, *_double_round(*rows)),
        (tf.constant(0), *start),
        maximum_iterations=10,
    )
    return tf.concat([first + last for first, last in zip(start, end, strict=True)], axis=0)


def _double_round(a, b, c, d):
    """Four quarter rounds on the columns, then four on the diagonals."""
    a, b, c, d = _quarter_rounds(a, b, c, d)
    b, c, d = (tf.roll(row, -shift, axis=0) for row, shift in ((b, 1), (c, 2), (d, 3)))
    a, b, c, d = _quarter_rounds(a, b, c, d)
    b, c, d = (tf.roll(row, shift, axis=0) for row, shift in ((b, 1), (c, 2), (d, 3)))
    return a, b, c, d


def _quarter_rounds(a, b, c, d):
    a = a + b
    d = _turned(tf.bitwise.bitwise_xor(d, a), 16)
    c = c + d
    b = _turned(tf.bitwise.bitwise_xor(b, c), 12)
    a = a + b
    d = _turned(tf.bitwise.bitwise_xor(d, a), 8)
    c = c + d
    b = _turned(tf.bitwise.bitwise_xor(b, c), 7)
    return a, b, c, d


def _turned(words, places):
    left = tf.bitwise.left_shift(words, _word(places))
    return tf.bitwise.bitwise_or(left, tf.bitwise.right_shift(words, _word(32 - places)))


def _word(value):
    return tf.constant(value, tf.uint32)
