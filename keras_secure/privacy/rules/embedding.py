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
        indices.append(ops.reshape(ops.cast(ids, "int32"), (ops.shape(dz)[0], count)))
        grads.append(ops.reshape(dz, (ops.shape(dz)[0], count, layer.output_dim)))
    rows = Rows(ops.concatenate(indices, axis=1), ops.concatenate(grads, axis=1), layer.input_dim)
    return [(layer.embeddings, rows)]
