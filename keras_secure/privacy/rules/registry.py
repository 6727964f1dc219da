"""Which rule serves which layer."""

from collections.abc import Callable
from typing import Any

_RULES: dict[Any, tuple[Callable, Callable[[Any], bool]]] = {}


def register_rule(*layer_classes, covers=None):
    """Registers a function as the clipping rule of layer classes.

    The function receives `(layer, calls)`, where `calls` lists, for each use of the layer in the
    forward pass, the pair (inputs, gradient by the pre-activation), both with a leading batch axis
    and in float32 (integer inputs as they are). It returns a list of (variable, Contribution), one
    pair for every trainable variable of the layer. The gradients it describes are exact: any
    approximation breaks the privacy guarantee.

    Args:
        *layer_classes: Keras layer classes with the same forward pass. A subclass is served too,
            unless it overrides `call`.
        covers: Optional predicate on a layer; where it is false the exact fallback is used.

    Returns:
        A decorator that returns the function unchanged.

    Example:

    >>> import keras
    >>> from keras_secure.privacy import Materialized, register_rule
    >>> class Scale(keras.layers.Layer):
    ...     def build(self, shape):
    ...         self.scale = self.add_weight(shape=(shape[-1],), initializer="ones")
    ...     def call(self, x):
    ...         return x * self.scale
    >>> @register_rule(Scale)
    ... def scale_rule(layer, calls):
    ...     return [(layer.scale, Materialized(sum(x * dz for x, dz in calls)))]
    """

    def register(rule):
        for layer_class in layer_classes:
            _RULES[layer_class] = (rule, covers or (lambda layer: True))
        return rule

    return register


def rule_for(layer):
    """Returns the rule that serves `layer`, or None."""
    layer_classes: tuple[Any, ...] = type(layer).__mro__
    for layer_class in layer_classes:
        if layer_class in _RULES:
            rule, covers = _RULES[layer_class]
            same_forward = type(layer).call is layer_class.call
            return rule if same_forward and covers(layer) else None
    return None
