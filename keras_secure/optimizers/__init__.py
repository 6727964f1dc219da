"""Optimizers: a differentially private wrapper for any Keras optimizer, and a clipping one."""

from keras_secure.optimizers.clipping_optimizer import ClippingOptimizer
from keras_secure.optimizers.dp_optimizer import DPOptimizer
from keras_secure.optimizers.named import DPSGD, DPAdam

__all__ = ["DPSGD", "ClippingOptimizer", "DPAdam", "DPOptimizer"]
