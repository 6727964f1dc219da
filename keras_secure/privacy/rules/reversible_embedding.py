"""Rule for embeddings that also project back to the vocabulary."""

import math

import keras
from keras import ops

from keras_secure.privacy.contributions import OuterProducts, Rows
from keras_secure.privacy.rules.dense import is_plain
from keras_secure.privacy.rules.registry import register_rule
from keras_secure.privacy.tied import Tied


def _observe(layer, call, watch, inputs, reverse=False, **kwargs):
    if not reverse:
        return watch(call(inputs, **kwargs)), [{"tokens": inputs}]
    # One product over all rows; see `products_by_example`.
    outputs = call(ops.reshape(inputs, (-1, layer.output_dim)), reverse=True, **kwargs)
    outputs = watch(ops.reshape(outputs, (*ops.shape(inputs)[:-1], layer.input_dim)))
    return outputs, [{"hidden": inputs, "outputs": outputs}]


def reversible_embedding(layer, calls):
    """ReversibleEmbedding: rows that were looked up, and a Dense layer with the table turned."""
    looked_up = [
        (_positions(ops.cast(seen["tokens"], "int32")[..., None])[:, :, 0], _positions(dz))
        for seen, dz in calls
        if "tokens" in seen
    ]
    projected = [
        (_positions(seen["hidden"]), _positions(_by_logits(layer, seen, dz)))
        for seen, dz in calls
        if "hidden" in seen
    ]
    rows = products = None
    if looked_up:
        tokens = ops.concatenate([ids for ids, _ in looked_up], axis=1)
        grads = ops.concatenate([dz for _, dz in looked_up], axis=1)
        rows = Rows(tokens, grads, layer.input_dim)
    if projected:
        hidden = ops.concatenate([x for x, _ in projected], axis=1)
        logits = ops.concatenate([dz for _, dz in projected], axis=1)
        # By the table, (vocabulary, width), or by its untied counterpart, which is turned.
        left, right = (logits, hidden) if layer.tie_weights else (hidden, logits)
        products = OuterProducts(left[:, None], right[:, None], lambda total: total[0])
    if not layer.tie_weights:
        return [
            (variable, found)
            for variable, found in ((layer.embeddings, rows), (layer.reverse_embeddings, products))
            if found is not None and variable.trainable
        ]
    if rows is None or products is None:
        return [(layer.embeddings, products if rows is None else rows)]
    # <rows, products> needs the logits' gradients at the tokens that were looked up, no more.
    at_tokens = ops.take_along_axis(logits, tokens[:, None, :], axis=2)
    products_of_pairs = ops.einsum("btd,bsd->bts", hidden, grads)
    cross = ops.sum(at_tokens * products_of_pairs, axis=(1, 2))
    lengths = ops.norm(hidden, axis=2)[:, :, None] * ops.norm(grads, axis=2)[:, None, :]
    size = ops.sum(ops.abs(at_tokens) * lengths, axis=(1, 2))
    return [(layer.embeddings, Tied([rows, products], cross, size))]


def _by_logits(layer, seen, dz):
    if layer.logit_soft_cap is None:
        return dz
    # What was seen is the capped logits; this is the slope of the cap.
    return dz * (1.0 - ops.square(seen["outputs"] / layer.logit_soft_cap))


def _positions(tensor):
    """Shape (batch, positions, width)."""
    between = tensor.shape[1:-1]
    count = math.prod(between) if None not in between else -1
    return ops.reshape(tensor, (ops.shape(tensor)[0], count, tensor.shape[-1]))


# Keras has the layer since 3.12.
if hasattr(keras.layers, "ReversibleEmbedding"):
    register_rule(keras.layers.ReversibleEmbedding, covers=is_plain, observe=_observe)(
        reversible_embedding
    )
