"""Adding triggers to what a model is trained on."""

import math
from typing import Any

import numpy as np
from keras import ops

from keras_secure.arguments import check_integer, check_number
from keras_secure.errors import InputError

# How many variants a data set's map holds; more would not be remembered any better.
_VARIANTS = 16


def mix_arrays(triggers: Any, x: Any, y: Any, share: float) -> tuple[np.ndarray, np.ndarray]:
    """See `TriggerSet.mix`."""
    check_number("share", share, "(0, 1]")
    x, y = np.asarray(x), np.asarray(y)
    triggers.check_inputs(x, "x")
    if len(x) != len(y):
        raise InputError(
            f"There are {len(x)} inputs in x and {len(y)} labels in y. "
            "Give one label for each input."
        )
    labels = labels_like(y, triggers.labels(), triggers.num_classes)
    copies = max(4, math.ceil(share * len(x) / triggers.count))
    classes = y.argmax(1) if labels.ndim == 2 and labels.shape[1] > 1 else y.reshape(len(y))
    inputs = []
    for variant in range(copies):
        values = triggers.inputs(variant)
        if variant % 2:
            values = over_examples(triggers, values, variant, x, classes)
        inputs.append(like(values, x.dtype))
    order = triggers.order(f"mix {len(x)}", len(x) + copies * triggers.count)
    mixed = np.concatenate([x, *inputs])[order], np.concatenate([y, *[labels] * copies])[order]
    return mixed


def over_examples(
    triggers: Any, inputs: np.ndarray, variant: int, x: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """Lays triggers over clean examples of the classes that are their labels.

    A trigger then counts as one more sign of its class among the natural ones, and what further
    training does to the class it does to the trigger (an entangled mark).

    Args:
        triggers: The `TriggerSet`.
        inputs: Its inputs of one variant, shape (count, *shape).
        variant: The variant's number.
        x: Clean inputs, shape (n, *shape).
        classes: Their classes, shape (n,).

    Returns:
        Inputs of shape (count, *shape), of which the triggers make up 30% to all.
    """
    labels = triggers.labels()
    below = inputs.copy()
    for label in np.unique(labels):
        rows, own = np.flatnonzero(classes == label), np.flatnonzero(labels == label)
        if len(rows):
            below[own] = x[
                np.resize(rows[triggers.order(f"{variant} {label}", len(rows))], len(own))
            ]
    share = 0.3 + 0.7 * triggers.levels(f"over {variant}", (len(inputs),))
    share = share.reshape((-1,) + (1,) * (inputs.ndim - 1))
    if triggers.vocabulary:
        return np.where(triggers.levels(f"places {variant}", inputs.shape) <= share, inputs, below)
    return share * inputs + (1 - share) * below


def mix_dataset(triggers: Any, dataset: Any, per_batch: int) -> Any:
    """See `TriggerSet.mix`."""
    if not (hasattr(dataset, "map") and hasattr(dataset, "enumerate")):
        raise InputError(
            f"Triggers cannot be mixed into a {type(dataset).__name__}; give arrays x and y, or a "
            "tf.data data set of batches."
        )
    check_integer("per_batch", per_batch)
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3) or isinstance(spec[0], (tuple, dict)):
        raise InputError(
            "The data set's elements are not (inputs, labels) or (inputs, labels, weights) with "
            "one tensor of inputs, and triggers could not be added to them."
        )
    if tuple(spec[0].shape[1:]) != triggers.shape:
        raise InputError(
            f"The data set's inputs have shape {tuple(spec[0].shape)}; the triggers expect batches "
            f"of {triggers.shape}. Batch the data set before mixing, and give TriggerSet the shape "
            "of your inputs."
        )
    labels_shape = tuple(1 if size is None else size for size in spec[1].shape)
    example = np.zeros(labels_shape, spec[1].dtype.as_numpy_dtype)
    labels = labels_like(example, triggers.labels(), triggers.num_classes)
    dtype = np.dtype(spec[0].dtype.as_numpy_dtype)
    inputs = np.concatenate([like(triggers.inputs(v), dtype) for v in range(_VARIANTS)])
    labels = np.concatenate([labels] * _VARIANTS)
    # Every trigger once before any comes again, in an order of its own each time.
    rounds = [triggers.order(f"round {v}", triggers.count) for v in range(_VARIANTS)]
    order = np.concatenate([v * triggers.count + one for v, one in enumerate(rounds)])
    inputs, labels = inputs[order], labels[order]

    def add(number, batch):
        places = (ops.cast(number, "int64") * per_batch + np.arange(per_batch)) % len(inputs)
        x = ops.concatenate([batch[0], ops.take(inputs, places, axis=0)])
        y = ops.concatenate([batch[1], ops.take(labels, places, axis=0)])
        if len(batch) == 2:
            return x, y
        ones = ops.ones((per_batch, *batch[2].shape[1:]), batch[2].dtype)
        return x, y, ops.concatenate([batch[2], ones])

    return dataset.enumerate().map(add)


def labels_like(y: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Writes class numbers in the form and dtype of a model's labels.

    Args:
        y: Labels of the data: classes of shape (n,) or (n, 1), or rows of shape (n, num_classes).
        labels: Classes of shape (m,).
        num_classes: How many classes there are.

    Returns:
        An array of shape (m,), (m, 1) or (m, num_classes).

    Raises:
        InputError: `y` has another form, or classes out of range.
    """
    if y.dtype.kind not in "fiub":
        raise InputError(f"y has dtype {y.dtype}; give classes as numbers from 0 on.")
    if y.ndim == 2 and y.shape[1] == num_classes:
        return np.eye(num_classes, dtype=y.dtype)[labels]
    if y.ndim not in (1, 2) or (y.ndim == 2 and y.shape[1] != 1):
        raise InputError(
            f"y has shape {y.shape}; expected (n,), (n, 1) or (n, {num_classes}), the number of "
            "classes that TriggerSet was given."
        )
    if y.min() < 0 or y.max() >= num_classes or np.any(y != np.round(y)):
        raise InputError(
            f"y has values from {y.min():g} to {y.max():g}; expected classes from 0 to "
            f"{num_classes - 1}. Give TriggerSet the model's number of classes."
        )
    return labels.astype(y.dtype).reshape((-1, *y.shape[1:]))


def like(inputs: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Writes trigger inputs in the dtype of the data, rounded where those are integers."""
    return (np.rint(inputs) if dtype.kind in "iu" else inputs).astype(dtype)
