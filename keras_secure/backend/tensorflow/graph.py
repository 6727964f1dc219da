"""Compiled functions and state outside Keras."""

import tensorflow as tf


def compiled(function, jit_compile=False):
    """See `contract.Backend.compiled`."""
    return tf.function(function, jit_compile=jit_compile, autograph=False, reduce_retracing=True)


def sequential_loop(condition, body, state):
    """See `contract.Backend.sequential_loop`."""
    # By default TensorFlow runs up to ten turns at once, each with memory of its own.
    return tuple(
        tf.while_loop(
            condition,
            lambda *values: tuple(body(*values)),
            tuple(tf.convert_to_tensor(value) for value in state),
            parallel_iterations=1,
        )
    )


def state_variable(value):
    """See `contract.Backend.state_variable`."""
    return tf.Variable(
        value, trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
    )


def has_accelerator():
    """See `contract.Backend.has_accelerator`."""
    return any(device.device_type in ("GPU", "TPU") for device in tf.config.list_logical_devices())
