"""What a model loses on arrays, as cross-entropy has it."""

import weakref
from functools import partial

import numpy as np
from keras import ops

from keras_secure import backend
from keras_secure.logits import classification_logits

_GRAPHS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def cross_entropy(model, x, labels, *, from_logits=None, output=None, batch_size=128):
    """Returns the cross-entropy of each example, whatever loss the model was compiled with.

    Args:
        model: A built classifier, called with `training=False`.
        x: Floating point array of shape (num_examples, ...).
        labels: Integer array of the true classes.
        from_logits: See `classification_logits`.
        output: See `classification_logits`.
        batch_size: Examples per step; the last batch is padded.

    Returns:
        (losses, abstained): a float64 array of shape (num_examples,), infinite where the model
        gives NaN; and which examples a model that may abstain abstains on, None if it may not.
        There, the loss is that of neither answering rightly nor abstaining.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
    >>> losses, _ = cross_entropy(model, np.zeros((1, 2), "float32"), [0])
    >>> losses.round(4)
    array([0.6931])
    """
    dtype = "float64" if x.dtype == "float64" else "float32"
    graph, size = _graph(model, from_logits, output), min(batch_size, len(x))
    parts = []
    for start in range(0, len(x), size):
        rows = x[start : start + size].astype(dtype)
        filling = np.repeat(rows[:1], size - len(rows), axis=0)
        padded = ops.convert_to_tensor(np.concatenate([rows, filling]))
        parts.append(ops.convert_to_numpy(graph(padded))[: len(rows)])
    logits = np.concatenate(parts).astype("float64")
    chosen, abstained = logits[np.arange(len(x)), labels], None
    if getattr(model, "abstains", False):
        abstained = logits.argmax(axis=1) == logits.shape[1] - 1
        chosen = np.logaddexp(chosen, logits[:, -1])
    top = logits.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        total = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
        losses = np.where(np.isnan(logits).any(axis=1), np.inf, total - chosen)
    return losses, abstained


def _graph(model, from_logits, output):
    # Compiling the model anew may change what its outputs are taken for.
    loss = getattr(model, "loss", None)
    key = (from_logits, output, str(loss), str(getattr(loss, "from_logits", None)))
    graphs = _GRAPHS.setdefault(model, {})
    if key not in graphs:
        held = weakref.ref(model)
        graphs[key] = backend.compiled(
            partial(lambda x: classification_logits(held(), x, from_logits, output))
        )
    return graphs[key]
