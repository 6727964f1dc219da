"""Rule for embeddings: norms without the dense vocabulary matrix."""

import math

import keras
from keras import ops

from keras_secure.privacy.contributions import Rows
from keras_secure.privacy.rules.dense import is_plain
from keras_secure.privacy.rules.registry import register_rule


@register_rule(keras.layers.Embedding, covers=is_plain)
def embedding(layer, calls):
    """Embedding: each example touches only the rows of its own tokens."""
    indices, grads = [], []
    for ids, dz in calls:
        count = math.prod(ids.shape[1:]) if None not in ids.shape[1:] else -1
        ids = ops.reshape(ops.cast(ids, "int32"), (ops.shape(dz)[0], count))
        # Keras counts negative numbers from the end of the table.
        indices.append(ops.where(ids < 0, ids + layer.input_dim, ids))
        grads.append(ops.reshape(dz, (ops.shape(dz)[0], count, layer.output_dim)))
    if len(calls) > 1:
        indices, grads = [ops.concatenate(indices, axis=1)], [ops.concatenate(grads, axis=1)]
    return [(layer.embeddings, Rows(indices[0], grads[0], layer.input_dim))]
