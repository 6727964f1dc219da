"""Rules for transposed convolutions in one, two and three dimensions."""

import math

import keras
from keras import ops

from keras_secure import backend
from keras_secure.privacy.contributions import Materialized, OuterProducts
from keras_secure.privacy.rules.registry import register_rule


@register_rule(
    keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose
)
def transposed_convolution(layer, calls):
    """Transposed convolution: the adjoint of a convolution, so the windows are the output's.

    The inner product of the output with any tensor g equals that of the input with the convolution
    of g: the kernel's gradient is that of a convolution fed with g = dz, at gradient x.
    """
    calls = [(channels_last(layer, x), channels_last(layer, dz)) for x, dz in calls]
    found: list = []
    if layer.kernel.trainable:
        windows, inputs = [], []
        for x, dz in calls:
            taken = backend.extract_windows(
                dz, layer.kernel_size, layer.strides, layer.dilation_rate, layer.padding
            )
            windows.append(taken[:, None])
            shape = (ops.shape(x)[0], 1, math.prod(x.shape[1:-1]), x.shape[-1])
            inputs.append(ops.reshape(x, shape))
        kernel = OuterProducts(
            ops.concatenate(windows, axis=3),
            ops.concatenate(inputs, axis=2),
            # (1, taps * filters, inputs) is the kernel's own order of axes.
            lambda total: ops.reshape(total, tuple(layer.kernel.shape)),
            positions_last=True,
        )
        found += [(layer.kernel, kernel)]
    if layer.use_bias and layer.bias.trainable:
        axes = tuple(range(1, layer.rank + 1))
        found += [(layer.bias, Materialized(sum(ops.sum(dz, axis=axes) for _, dz in calls)))]
    return found


def channels_last(layer, tensor):
    """Moves the channels of a convolution's input or output to the last axis."""
    if layer.data_format == "channels_last":
        return tensor
    return ops.transpose(tensor, (0, *range(2, layer.rank + 2), 1))
