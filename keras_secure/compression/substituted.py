"""Calling a layer with other values in the place of some of its variables."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


def call_with(
    layer: Any, substitutes: Sequence[tuple[Any, Any]], *args: Any, **kwargs: Any
) -> tuple[Any, list[Any]]:
    """Calls a built layer or model while some variables have other values; traceable.

    Gradients reach whatever these values were computed from. The other variables are updated as
    ever, such as the statistics of normalization and the states of random seeds.

    Args:
        layer: What to call.
        substitutes: Pairs of a variable, the layer's own or one inside, and the value that it has
            during the call.
        *args: Arguments of the call.
        **kwargs: Further ones.

    Returns:
        What the layer returns, and the losses that were added on the way.
    """
    replaced = {id(variable) for variable, _ in substitutes}
    # A scope hides the one around it, so what that says of the others is handed on.
    kept = [(v, ops.convert_to_tensor(v)) for v in layer.variables if id(v) not in replaced]
    with keras.StatelessScope([*substitutes, *kept], collect_losses=True) as scope:
        outputs = layer(*args, **kwargs)
    for variable, value in kept:
        update = scope.get_current_value(variable)
        if update is not value:
            variable.assign(update)
    return outputs, list(scope.losses)
