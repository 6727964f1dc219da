"""Per-example gradients by layer: one rule per kind of layer.

A rule maps the recorded calls of a layer, a list of (inputs, gradient by the pre-activation), to
a list of (trainable variable, contribution).
"""

from keras_secure.privacy.rules.registry import register_rule, rule_for
from keras_secure.privacy.rules import (  # noqa: I001  (importing registers the rules)
    convolution as _convolution,
    dense as _dense,
    embedding as _embedding,
    normalization as _normalization,
)

__all__ = ["register_rule", "rule_for"]
