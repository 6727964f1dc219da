"""Rule for PReLU."""

import keras
from keras import ops

from keras_secure.privacy.contributions import Materialized
from keras_secure.privacy.rules.registry import register_rule


@register_rule(keras.layers.PReLU)
def prelu(layer, calls):
    """PReLU: the slope of a negative input has that input for its derivative."""
    shape = tuple(layer.alpha.shape)
    # Axes of length one may be shared ones: a sum over a single entry does no harm.
    shared = tuple(axis for axis, size in enumerate(shape, start=1) if size == 1)
    total = 0.0
    for x, dz in calls:
        grads = ops.minimum(x, 0.0) * dz
        summed = ops.sum(grads, axis=shared, keepdims=True) if shared else grads
        total = total + ops.reshape(summed, (-1, *shape))
    return [(layer.alpha, Materialized(total))]
