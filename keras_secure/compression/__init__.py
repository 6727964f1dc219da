"""Smaller models: pruned, clustered, quantized; ordinary Keras models before and after."""

from keras_secure.compression.prune import prune, sparsity
from keras_secure.compression.quantized_weights import QuantizedWeight, quantized_weights
from keras_secure.compression.schedules import ConstantSparsity, PolynomialDecay

__all__ = [
    "ConstantSparsity",
    "PolynomialDecay",
    "QuantizedWeight",
    "prune",
    "quantized_weights",
    "sparsity",
]
