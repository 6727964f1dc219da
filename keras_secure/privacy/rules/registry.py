"""Which rule serves which layer."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """How the per-example gradients of a kind of layer are formed.

    Attributes:
        function: Maps (layer, calls) to a list of (variable, contribution).
        covers: Whether the rule serves a given layer of its class.
        observe: Runs the layer and says what to record of it; None for the usual observer.
        parts: Whether the rule accounts for the weights of the layer's inner layers, too.
    """

    function: Callable
    covers: Callable[[Any], bool]
    observe: Callable | None
    parts: bool

    def __call__(self, layer, calls):
        """Returns what `function` does."""
        return self.function(layer, calls)


_RULES: dict[Any, list[Rule]] = {}


def register_rule(*layer_classes, covers=None, observe=None, parts=False):
    """Registers a function as the clipping rule of layer classes.

    The function receives `(layer, calls)`, where `calls` lists, for each use of the layer in the
    forward pass, the pair (inputs, gradient by the pre-activation), both with a leading batch axis
    and in float32 (integer inputs as they are). It returns a list of (variable, Contribution), one
    pair for every trainable variable of the layer. The gradients it describes are exact: any
    approximation breaks the privacy guarantee.

    Args:
        *layer_classes: Keras layer classes with the same forward pass. A subclass is served too,
            unless it overrides `call`.
        covers: Optional predicate on a layer; where it is false an earlier rule of the class is
            asked, and last the exact fallback is used.
        observe: Optional function `(layer, call, watch, *args, **kwargs)` for layers whose weights
            do not all act right before the `activation`. It runs the layer, through `call` or by
            the same arithmetic, replaces tensors z of its choice by `watch(z)`, and returns
            (outputs, inputs) with one entry of nested tensors for each watched tensor. The rule
            then receives pairs (entry, gradient by the watched tensor).
        parts: Whether the rule also returns the variables of the layer's inner layers; by default
            these are served by rules of their own.

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

    def register(function):
        rule = Rule(function, covers or (lambda layer: True), observe, parts)
        for layer_class in layer_classes:
            _RULES.setdefault(layer_class, []).insert(0, rule)
        return function

    return register


def rule_for(layer):
    """Returns the `Rule` that serves `layer`, or None."""
    layer_classes: tuple[Any, ...] = type(layer).__mro__
    for layer_class in layer_classes:
        if layer_class in _RULES:
            if type(layer).call is not layer_class.call:
                return None
            covering = (rule for rule in _RULES[layer_class] if rule.covers(layer))
            return next(covering, None)
    return None
