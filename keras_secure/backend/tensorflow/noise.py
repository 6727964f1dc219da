"""Keyed noise: Threefry-2x32 in counter mode, shaped by Box and Muller."""

import math

import tensorflow as tf

from keras_secure.backend.tensorflow.graph import fused

# Rotations and the parity of the key schedule of Threefry-2x32.
_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY = 0x1BD11BDA
_ROUNDS = 20
# Pairs are drawn in multiples of this: it divides evenly among the usual numbers of cores, without
# which XLA guards every element and leaves the loops scalar. Small models share one compilation.
_BLOCK = 7680


def normal(size, stddev, key, counter):
    """See `contract.Backend.normal`."""
    inner = fused(_key_of_draw)(tf.bitcast(key, tf.int64), tf.cast(counter, tf.int64))
    pairs = -(-size // (2 * _BLOCK)) * _BLOCK
    # Two functions, because within one XLA would draw the words anew for each use.
    words = fused(_random_words)(inner, pairs)
    values = fused(_halves)(words, tf.cast(stddev, tf.float32))
    return tf.reshape(values, [-1])[:size]


def uniform(key, streams, counter, count):
    """See `contract.Backend.uniform`."""
    pairs = -(-count // 2)
    words = fused(_words_of_streams)(
        tf.cast(key, tf.uint32), tf.cast(streams, tf.uint32), tf.cast(counter, tf.uint32), pairs
    )
    return words[:, :count]


def portable_normal(shape, stddev, key, counter):
    """See `contract.Backend.portable_normal`."""
    seed = tf.stack([key[0], key[1] + tf.cast(counter, tf.int64)])
    return tf.random.stateless_normal(shape, seed, stddev=stddev, alg="philox")


def unforeseen_key():
    """See `contract.Backend.unforeseen_key`."""
    # The operation itself, because tf.random.uniform would take the global seed into account.
    words = tf.raw_ops.RandomUniformInt(shape=[4], minval=0, maxval=2**31 - 1, seed=0, seed2=0)
    words = tf.cast(words, tf.int64)
    return words[:2] * 2**31 + words[2:]


def _words_of_streams(key, streams, counter, pairs):
    row_keys = _threefry(key[0], key[1], streams[:, 0], streams[:, 1])
    numbers = tf.cast(tf.range(pairs), tf.uint32)[None]
    words = _threefry(
        row_keys[0][:, None],
        row_keys[1][:, None],
        tf.tile(numbers, [tf.shape(streams)[0], 1]),
        counter,
    )
    # 24 bits are what float32 tells apart below one.
    return tf.concat(
        [tf.cast(tf.bitcast(_shifted(word, right=8), tf.int32), tf.float32) for word in words], 1
    ) * (2.0**-24)


def _key_of_draw(key, position):
    # Under one key, Threefry maps the position to the key of that position's draw one to one, so no
    # two positions share a stream. Within a draw the counter numbers the pairs.
    outer, shifted = tf.bitcast(key[0], tf.uint32), tf.bitcast(key[1] + position, tf.uint32)
    return tf.stack(_threefry(outer[0], outer[1], shifted[0], shifted[1]))


def _random_words(key, pairs):
    """Two 32-bit words a pair, as real and imaginary part: one value, which XLA computes once."""
    numbers = tf.cast(tf.range(pairs), tf.uint32)
    words = _threefry(key[0], key[1], numbers, tf.zeros_like(numbers))
    return tf.complex(*[tf.bitcast(word, tf.float32) for word in words])


def _halves(words, stddev):
    """Cosines, then sines, shape (2, pairs): both are computed for each, which spares a copy."""
    cosines, sines = box_muller(words[None], stddev)
    return tf.where(tf.constant([[True], [False]]), cosines, sines)


def box_muller(words, stddev):
    """Box and Muller 1958. Radii come from 31 random bits and so reach 6.6 standard deviations."""
    first = tf.bitcast(tf.math.real(words), tf.uint32)
    second = tf.bitcast(tf.math.imag(words), tf.uint32)
    uniform = tf.cast(tf.bitcast(_shifted(first, right=1), tf.int32), tf.float32) + 0.5
    radius = stddev * tf.sqrt(-2.0 * tf.math.log(uniform * 2.0**-31))
    # Two bits choose the quadrant and 30 the angle from its middle, in (-pi/4, pi/4). Taylor's
    # series are exact there to float32, and vectorize where library functions do not.
    quadrant = _shifted(second, right=30)
    offset = tf.cast(tf.bitcast(_shifted(second, left=2), tf.int32), tf.float32)
    angle = (offset + 2.0) * (math.pi * 2.0**-33)
    square = angle * angle
    sine = angle * _polynomial(square, [1.0, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880])
    cosine = _polynomial(square, [1.0, -1 / 2, 1 / 24, -1 / 720, 1 / 40320])
    is_odd = tf.equal(tf.bitwise.bitwise_and(quadrant, _word(1)), _word(1))
    signed = tf.where(tf.greater(quadrant, _word(1)), -radius, radius)
    return signed * tf.where(is_odd, -sine, cosine), signed * tf.where(is_odd, cosine, sine)


def _threefry(key_0, key_1, word_0, word_1):
    """Threefry-2x32 (Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3)."""
    keys = [key_0, key_1, tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(key_0, key_1), _PARITY)]
    word_0, word_1 = word_0 + key_0, word_1 + key_1
    for number in range(_ROUNDS):
        rotation = _ROTATIONS[number % 8]
        word_0 = word_0 + word_1
        turned = tf.bitwise.bitwise_or(
            _shifted(word_1, left=rotation), _shifted(word_1, right=32 - rotation)
        )
        word_1 = tf.bitwise.bitwise_xor(turned, word_0)
        if number % 4 == 3:
            injection = number // 4 + 1
            word_0 = word_0 + keys[injection % 3]
            word_1 = word_1 + keys[(injection + 1) % 3] + _word(injection)
    return word_0, word_1


def _polynomial(x, coefficients):
    total = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        total = total * x + coefficient
    return total


def _shifted(words, left=0, right=0):
    if left:
        return tf.bitwise.left_shift(words, _word(left))
    return tf.bitwise.right_shift(words, _word(right))


def _word(value):
    return tf.constant(value, tf.uint32)
