"""Smaller models: pruned, clustered, quantized; ordinary Keras models before and after."""

from keras_secure.compression.clustered_weights import ClusteredWeight, clustered_weights
from keras_secure.compression.compressed_layers import (
    CompressedConv1D,
    CompressedConv1DTranspose,
    CompressedConv2D,
    CompressedConv2DTranspose,
    CompressedConv3D,
    CompressedConv3DTranspose,
    CompressedDense,
    CompressedDepthwiseConv1D,
    CompressedDepthwiseConv2D,
    CompressedEinsumDense,
    CompressedSeparableConv1D,
    CompressedSeparableConv2D,
)
from keras_secure.compression.compressed_model import CompressedModel
from keras_secure.compression.learned_step_size import LearnedStepSize
from keras_secure.compression.prune import prune, sparsity
from keras_secure.compression.quantize import quantize
from keras_secure.compression.quantized_weights import QuantizedWeight, quantized_weights
from keras_secure.compression.schedules import ConstantSparsity, PolynomialDecay
from keras_secure.compression.shared_weights import SharedWeights
from keras_secure.compression.strip import strip
from keras_secure.compression.train_compressed import cluster_aware, quantize_aware

__all__ = [
    "ClusteredWeight",
    "CompressedConv1D",
    "CompressedConv1DTranspose",
    "CompressedConv2D",
    "CompressedConv2DTranspose",
    "CompressedConv3D",
    "CompressedConv3DTranspose",
    "CompressedDense",
    "CompressedDepthwiseConv1D",
    "CompressedDepthwiseConv2D",
    "CompressedEinsumDense",
    "CompressedModel",
    "CompressedSeparableConv1D",
    "CompressedSeparableConv2D",
    "ConstantSparsity",
    "LearnedStepSize",
    "PolynomialDecay",
    "QuantizedWeight",
    "SharedWeights",
    "cluster_aware",
    "clustered_weights",
    "prune",
    "quantize",
    "quantize_aware",
    "quantized_weights",
    "sparsity",
    "strip",
]
