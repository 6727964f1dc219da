"""Keyed noise."""

import tensorflow as tf


def standard_normal(shape, key, counter):
    """See `contract.Backend.standard_normal`."""
    # Philox 4x32-10 takes a 64-bit key and a 128-bit counter whose low word numbers the values of
    # one draw. The first entropy word is the key; the second offsets the high word of the counter,
    # a bijection in `counter`, so draws never overlap.
    words = tf.bitcast(key, tf.uint64)
    high = words[1] + tf.bitcast(tf.cast(counter, tf.int64), tf.uint64)
    return tf.raw_ops.StatelessRandomNormalV2(
        shape=tf.constant(list(shape), tf.int32),
        key=words[:1],
        counter=tf.stack([tf.zeros((), tf.uint64), high]),
        alg=tf.constant(1, tf.int32),
        dtype=tf.float32,
    )
