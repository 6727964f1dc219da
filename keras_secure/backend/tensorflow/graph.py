"""Compiled functions and state outside Keras."""

import tensorflow as tf


def compiled(function, jit_compile=False):
    """See `contract.Backend.compiled`."""
    return tf.function(function, jit_compile=jit_compile, autograph=False, reduce_retracing=True)


def state_variable(value):
    """See `contract.Backend.state_variable`."""
    return tf.Variable(
        value, trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
    )


def has_accelerator():
    """See `contract.Backend.has_accelerator`."""
    return any(device.device_type in ("GPU", "TPU") for device in tf.config.list_logical_devices())
