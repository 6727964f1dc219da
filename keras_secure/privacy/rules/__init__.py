"""Per-example gradients by layer: one rule per kind of layer.

A rule maps the recorded calls of a layer, a list of (inputs, gradient by the pre-activation), to
a list of (trainable variable, contribution).
"""

from keras_secure.privacy.rules import (
    convolution,
    dense,
    depthwise,
    embedding,
    lora,
    normalization,
    prelu,
    recurrent,
    reversible_embedding,
    transposed_convolution,
)
from keras_secure.privacy.rules.registry import register_rule, rule_for

__all__ = [
    "convolution",
    "dense",
    "depthwise",
    "embedding",
    "lora",
    "normalization",
    "prelu",
    "recurrent",
    "register_rule",
    "reversible_embedding",
    "rule_for",
    "transposed_convolution",
]
