"""Products with a shared kernel, for layers that run example by example.

There a batch is one example, and vectorization puts the true batch before it. TensorFlow's CPU
kernel for products of (batch, 1, positions, inputs) with one matrix writes out of bounds (seen in
2.21 with oneDNN), and is slower than what is used here: one product over all rows.
"""

import keras
from keras import ops

from keras_secure import backend
from keras_secure.replacement import replaced


def safe_call(layer, call):
    """Returns the equal of `call` for a layer that multiplies inputs by a kernel, or else None."""
    if getattr(layer, "quantization_mode", None) is not None:
        return None
    if type(layer).call is keras.layers.Dense.call:
        return _dense(layer, call)
    if type(layer).call is keras.layers.EinsumDense.call:
        return _einsum_dense(layer)
    return None


def _dense(layer, call):
    def run(inputs, *args, **kwargs):
        activation = layer.activation
        with replaced(layer, "activation", None):
            outputs = call(ops.reshape(inputs, (-1, inputs.shape[-1])), *args, **kwargs)
        outputs = ops.reshape(outputs, (*ops.shape(inputs)[:-1], outputs.shape[-1]))
        return outputs if activation is None else activation(outputs)

    return run


def _einsum_dense(layer):
    def run(inputs, *args, **kwargs):
        kernel = ops.cast(layer.kernel, inputs.dtype)
        outputs = backend.einsum(layer.equation, inputs, kernel)
        if layer.bias is not None:
            outputs = ops.add(outputs, ops.cast(layer.bias, outputs.dtype))
        return outputs if layer.activation is None else layer.activation(outputs)

    return run
