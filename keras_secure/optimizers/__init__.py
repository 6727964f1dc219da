"""Optimizers: a differentially private wrapper for any Keras optimizer."""

from keras_secure.optimizers.dp_optimizer import DPOptimizer
from keras_secure.optimizers.named import DPAdam, DPSGD

__all__ = ["DPAdam", "DPOptimizer", "DPSGD"]
