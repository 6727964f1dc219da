"""Lookups in tables: which rows were taken, and how often."""

import tensorflow as tf


def first_places(ordered, values):
    """See `contract.Backend.first_places`."""
    return tf.searchsorted(ordered, values, side="left", out_type=tf.int32)


def row_counts(indices, num_rows):
    """See `contract.Backend.row_counts`."""
    # `tf.math.bincount` would find its size at run time, which XLA cannot.
    return tf.raw_ops.DenseBincount(
        input=indices, size=num_rows, weights=tf.zeros((0,), tf.float32), binary_output=False
    )
