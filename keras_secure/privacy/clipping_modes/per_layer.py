"""A bound for every layer."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from keras_secure.errors import PrivacyError
from keras_secure.privacy.clipping_modes.mode import ClippingMode


@dataclass(frozen=True)
class PerLayerClipping(ClippingMode):
    """Scales the gradient of each layer's own variables to a bound of its own.

    `DPOptimizer(clipping="per_layer")`. Layer l is clipped to `C_l = C * w_l / sqrt(sum of w^2)`,
    so that the whole gradient is bounded by `sqrt(sum of C_l^2) = C`, which the noise is scaled to.
    By default all L layers with trainable variables share alike, `C / sqrt(L)`.

    Args:
        weights: Dict from layer name to the positive weight w_l of that layer; layers that are not
            named weigh 1. None for equal shares.

    Raises:
        PrivacyError: if a weight is not positive and finite, or no layer has its name.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="hidden"),
    ...                           keras.layers.Dense(2, name="last")])
    >>> groups = PerLayerClipping({"hidden": 0.75}).groups(model)
    >>> [([v.name for v in variables], round(share, 3)) for variables, share in groups]
    [(['kernel', 'bias'], 0.6), (['kernel', 'bias'], 0.8)]

    Reference: McMahan et al. 2018 (arXiv 1710.06963), section 2.3; Bu et al. 2023 (arXiv
    2206.07136), appendix on per-layer clipping.
    """

    kind: ClassVar[str] = "per_layer"
    weights: Mapping[str, float] | None = None

    def __post_init__(self):
        for name, weight in (self.weights or {}).items():
            if not 0 < weight < math.inf:
                raise PrivacyError(
                    f"The weight of layer {name!r} is {weight}; it must be positive and finite."
                )
        # A copy: a plan that its owner changes later would not be the one that was compiled.
        if self.weights is not None:
            weights = {str(name): float(weight) for name, weight in self.weights.items()}
            object.__setattr__(self, "weights", weights)

    def groups(self, model):
        """See `ClippingMode`."""
        owned = _owned_variables(model)
        missing = sorted(set(self.weights or {}) - {layer.name for layer, _ in owned})
        if missing:
            raise PrivacyError(
                f"The clipping weights name {missing[0]!r}, but the layers with trainable "
                f"variables of their own are {', '.join(layer.name for layer, _ in owned)}."
            )
        weights = [(self.weights or {}).get(layer.name, 1.0) for layer, _ in owned]
        whole = math.hypot(*weights)
        return [(part, w / whole) for (_, part), w in zip(owned, weights, strict=True)]


def _owned_variables(model):
    """(layer, trainable variables) pairs; a variable belongs to the innermost layer that has it."""
    taken: set[int] = set()
    found: list = []

    def visit(layer):
        for part in layer._flatten_layers(include_self=False, recursive=False):
            visit(part)
        own = [v for v in layer.trainable_variables if id(v) not in taken]
        if own:
            taken.update(id(v) for v in own)
            found.append((layer, own))

    visit(model)
    return found
