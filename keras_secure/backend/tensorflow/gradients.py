"""Automatic differentiation and per-example vectorization."""

import tensorflow as tf


def gradients(function, sources, dense=False, constants=()):
    """See `contract.Backend.gradients`."""
    with tf.GradientTape() as tape:
        for constant in constants:
            tape.watch(constant)
        value, aux = function()
    wanted = [getattr(source, "value", source) for source in sources()]
    found = tape.gradient(value, wanted)
    if dense:
        found = [None if gradient is None else tf.convert_to_tensor(gradient) for gradient in found]
    return value, aux, found


def input_gradient(function, inputs):
    """See `contract.Backend.input_gradient`."""
    inputs = tf.convert_to_tensor(inputs)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        result = function(inputs)
        value = result[0] if isinstance(result, tuple) else result
    return result, tape.gradient(value, inputs, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def is_outer_tensor(tensor):
    """See `contract.Backend.is_outer_tensor`."""
    if tf.executing_eagerly():
        return True
    return getattr(tensor, "graph", None) is tf.compat.v1.get_default_graph()


def per_example_map(function, elements):
    """See `contract.Backend.per_example_map`."""
    return tf.vectorized_map(function, elements)


def pulled_back(function, inputs, gradient):
    """See `contract.Backend.pulled_back`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        outputs = function(inputs)
    return tape.gradient(outputs, inputs, output_gradients=gradient)


def einsum(equation, left, right):
    """See `contract.Backend.einsum`."""
    return tf.einsum(equation, left, right)
