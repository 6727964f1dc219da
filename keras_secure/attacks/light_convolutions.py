"""Convolutions of few channels, whose gradient by the inputs attacks wait for.

TensorFlow's kernel for that gradient is made for many channels. For the one to four of a picture,
where training never needs it, it takes several times as long as the rest of a small network, and
behind strides it is slow for a few more; `backend.convolution_by_inputs` gives the same values,
summed in another order.
"""

import contextlib
import math

import keras

from keras_secure import backend
from keras_secure.replacement import replaced

_PIXEL, _REGISTER = 4, 16


@contextlib.contextmanager
def light_convolutions(model):
    """Lets the convolutions of few channels in `model` form that gradient the fast way.

    For passes that are differentiated by the inputs alone. Layers are as they were afterwards, also
    when the pass fails; outputs are the same numbers all along.

    Args:
        model: Anything that can be called; without Keras layers inside, nothing happens.

    Example:

    >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3)])
    >>> with light_convolutions(model):
    ...     "convolution_op" in vars(model.layers[0])
    True
    >>> "convolution_op" in vars(model.layers[0])
    False
    """
    layers = model._flatten_layers() if isinstance(model, keras.Layer) else ()
    with contextlib.ExitStack() as stack:
        for layer in layers:
            if _is_light(layer):
                stack.enter_context(replaced(layer, "convolution_op", _convolution(layer)))
        yield


def _is_light(layer):
    """Whether the gradient of this layer by its inputs is slow, and has a fast form."""
    return (
        isinstance(layer, keras.layers.Conv2D)
        # A subclass may convolve in a way of its own.
        and type(layer).convolution_op is keras.layers.Conv2D.convolution_op
        and layer.built
        and layer.groups == 1
        and layer.data_format == "channels_last"
        and tuple(layer.dilation_rate) == (1, 1)
        and layer.strides[0] == layer.strides[1]
        and _has_few_channels(layer)
        and layer.padding in ("valid", "same")
        # Accelerators bring kernels of their own, and half precision rounds where it is summed.
        and layer.compute_dtype == "float32"
        and not backend.has_accelerator()
    )


def _has_few_channels(layer):
    rows, columns, channels, _ = layer.kernel.shape
    stride = layer.strides[0]
    if stride == 1:
        return channels <= _PIXEL
    # Strides that do not divide the kernel let the fast form multiply by zeros.
    spent = math.ceil(rows / stride) * math.ceil(columns / stride) * stride**2
    return channels <= _PIXEL or channels * spent <= _REGISTER * rows * columns


def _convolution(layer):
    usual, strides, padding = layer.convolution_op, tuple(layer.strides), layer.padding

    def convolution_op(inputs, kernel):
        if None in inputs.shape[1:]:
            return usual(inputs, kernel)
        return backend.convolution_by_inputs(inputs, kernel, strides, padding)

    return convolution_op
