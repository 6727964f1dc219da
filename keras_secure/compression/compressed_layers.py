"""The Keras layers that can train compressed; `quantize_aware` and `cluster_aware` make them."""

import keras

from keras_secure.compression.compressed_layer import CompressedLayer, compressed
from keras_secure.registration import component


@component("compression")
class CompressedDense(CompressedLayer, keras.layers.Dense):
    """A `Dense` layer that trains compressed; see `CompressedLayer`."""

    plain = keras.layers.Dense
    kernel = compressed("kernel")


@component("compression")
class CompressedEinsumDense(CompressedLayer, keras.layers.EinsumDense):
    """An `EinsumDense` layer that trains compressed; see `CompressedLayer`."""

    plain = keras.layers.EinsumDense
    kernel = compressed("kernel")


@component("compression")
class CompressedConv1D(CompressedLayer, keras.layers.Conv1D):
    """A `Conv1D` layer that trains compressed; see `CompressedLayer`."""

    plain = keras.layers.Conv1D
    kernel = compressed("kernel")


@component("compression")
class CompressedConv2D(CompressedLayer, keras.layers.Conv2D):
    """A `Conv2D` layer that trains compressed; see `CompressedLayer`."""

    plain = keras.layers.Conv2D
    kernel = compressed("kernel")


@component("compression")
class CompressedConv3D(CompressedLayer, keras.layers.Conv3D):
    """A `Conv3D` layer that trains compressed; see `CompressedLayer`."""

    plain = keras.layers.Conv3D
    kernel = compressed("kernel")


@component("compression")
class CompressedDepthwiseConv1D(CompressedLayer, keras.layers.DepthwiseConv1D):
    """A `DepthwiseConv1D` layer that trains compressed; see `CompressedLayer`."""

    plain = keras.layers.DepthwiseConv1D
    kernel = compressed("kernel")


@component("compression")
class CompressedDepthwiseConv2D(CompressedLayer, keras.layers.DepthwiseConv2D):
    """A `DepthwiseConv2D` layer that trains compressed; see `CompressedLayer`."""

    plain = keras.layers.DepthwiseConv2D
    kernel = compressed("kernel")


@component("compression")
class CompressedSeparableConv1D(CompressedLayer, keras.layers.SeparableConv1D):
    """A `SeparableConv1D` layer that trains compressed; see `CompressedLayer`."""

    plain = keras.layers.SeparableConv1D
    depthwise_kernel = compressed("depthwise_kernel")
    pointwise_kernel = compressed("pointwise_kernel")


@component("compression")
class CompressedSeparableConv2D(CompressedLayer, keras.layers.SeparableConv2D):
    """A `SeparableConv2D` layer that trains compressed; see `CompressedLayer`."""

    plain = keras.layers.SeparableConv2D
    depthwise_kernel = compressed("depthwise_kernel")
    pointwise_kernel = compressed("pointwise_kernel")


@component("compression")
class CompressedConv1DTranspose(CompressedLayer, keras.layers.Conv1DTranspose):
    """A `Conv1DTranspose` layer that trains compressed; see `CompressedLayer`."""

    plain = keras.layers.Conv1DTranspose
    kernel = compressed("kernel")


@component("compression")
class CompressedConv2DTranspose(CompressedLayer, keras.layers.Conv2DTranspose):
    """A `Conv2DTranspose` layer that trains compressed; see `CompressedLayer`."""

    plain = keras.layers.Conv2DTranspose
    kernel = compressed("kernel")


@component("compression")
class CompressedConv3DTranspose(CompressedLayer, keras.layers.Conv3DTranspose):
    """A `Conv3DTranspose` layer that trains compressed; see `CompressedLayer`."""

    plain = keras.layers.Conv3DTranspose
    kernel = compressed("kernel")


COMPRESSED_LAYERS: dict[type, type] = {
    cls.plain: cls
    for cls in (
        CompressedDense,
        CompressedEinsumDense,
        CompressedConv1D,
        CompressedConv2D,
        CompressedConv3D,
        CompressedDepthwiseConv1D,
        CompressedDepthwiseConv2D,
        CompressedSeparableConv1D,
        CompressedSeparableConv2D,
        CompressedConv1DTranspose,
        CompressedConv2DTranspose,
        CompressedConv3DTranspose,
    )
}
"""The class that trains compressed, by the ordinary layer's class."""
