"""Rules for normalizations within one example: Layer, Group and RMS normalization."""

import keras
from keras import ops

from keras_secure.privacy.contributions import Materialized
from keras_secure.privacy.rules.registry import register_rule


@register_rule(
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.RMSNormalization,
)
def normalization(layer, calls):
    """Scale and offset: the gradient against the normalized input, and the gradient itself."""
    scale = layer.scale if isinstance(layer, keras.layers.RMSNormalization) else layer.gamma
    offset = getattr(layer, "beta", None)
    found = []
    if scale is not None and scale.trainable:
        # The layer's own forward pass with scale one and offset zero is the normalized input.
        neutral = [(scale, ops.ones_like(scale))]
        if offset is not None:
            neutral.append((offset, ops.zeros_like(offset)))
        total = 0.0
        for x, dz in calls:
            with keras.StatelessScope(state_mapping=neutral):
                normalized = ops.cast(layer.call(x), "float32")
            total = total + _over_axes(normalized * dz, layer, scale)
        found += [(scale, Materialized(total))]
    if offset is not None and offset.trainable:
        found += [(offset, Materialized(sum(_over_axes(dz, layer, offset) for _, dz in calls)))]
    return found


def _over_axes(tensor, layer, variable):
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    kept = {axis % len(tensor.shape) for axis in axes}
    summed = tuple(axis for axis in range(1, len(tensor.shape)) if axis not in kept)
    tensor = ops.sum(tensor, axis=summed) if summed else tensor
    return ops.reshape(tensor, (-1, *variable.shape))
