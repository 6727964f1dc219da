"""Smaller models: pruned, clustered, quantized; ordinary Keras models before and after."""

from keras_secure.compression.quantized_weights import QuantizedWeight, quantized_weights

__all__ = ["QuantizedWeight", "quantized_weights"]
