"""Compiled functions and state outside Keras."""

import functools
import re

import tensorflow as tf

from keras_secure.backend.tensorflow.saved_graph import WEIGHTS


def compiled(function, jit_compile=False):
    """See `contract.Backend.compiled`."""
    return tf.function(function, jit_compile=jit_compile, autograph=False, reduce_retracing=True)


def trace(function, shape, dtype):
    """See `contract.Backend.trace`."""
    function.get_concrete_function(tf.TensorSpec(shape, dtype))


def named_constant(value, dtype, name):
    """See `contract.Backend.named_constant`."""
    # Of other characters the names of nodes do not consist.
    return tf.constant(value, dtype, name=re.sub(r"[^A-Za-z0-9_./-]", "_", f"{WEIGHTS}/{name}"))


@functools.cache
def fused(function):
    """See `contract.Backend.fused`."""
    # Where this TensorFlow cannot compile for the CPU, the same values come kernel by kernel.
    compiled = tf.function(function, jit_compile=True, autograph=False)
    return compiled if _can_compile() else tf.function(function, autograph=False)


def fused_call(function, tensors):
    """See `contract.Backend.fused_call`."""
    # XLA cannot update variables of several devices, and accelerators compile the whole step.
    alone = not (tf.executing_eagerly() or tf.distribute.has_strategy() or has_accelerator())
    if alone and _can_compile():
        function = tf.function(function, jit_compile=True, autograph=False)
    return function(*tensors)


@functools.cache
def _can_compile():
    with tf.init_scope():
        try:
            tf.function(lambda x: x + 1.0, jit_compile=True, autograph=False)(tf.zeros(()))
        except (tf.errors.OpError, ValueError):
            return False
    return True


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


def state_variable(value, rows_vary=False):
    """See `contract.Backend.state_variable`."""
    # Outside of the graph that is being traced, which could not hold it.
    with tf.init_scope():
        value = tf.convert_to_tensor(value)
        return tf.Variable(
            value,
            trainable=False,
            shape=tf.TensorShape([None, *value.shape[1:]]) if rows_vary else None,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )


def has_accelerator():
    """See `contract.Backend.has_accelerator`."""
    return any(device.device_type in ("GPU", "TPU") for device in tf.config.list_logical_devices())
