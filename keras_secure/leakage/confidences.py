"""How sure a classifier is of each example's label: what every membership attack starts from."""

import keras
import numpy as np

from keras_secure.errors import InputError
from keras_secure.logits import classification_logits


def membership_losses(model, x, y, *, batch_size: int = 256, from_logits=None) -> np.ndarray:
    """The cross-entropy of every example, at inference, without averaging.

    Logits are used where the model has them: a saturated softmax would tie the losses of all
    well-learned examples at zero and hide the leakage.

    Args:
        model: A Keras classifier with one output of shape (batch, classes).
        x: Inputs, an array of shape (n, ...) or a nested structure of them.
        y: Labels: integers of shape (n,) or (n, 1), or one-hot of shape (n, classes).
        batch_size: Examples per forward pass.
        from_logits: Whether the model gives logits; None to find out, as the attacks do.

    Returns:
        float64 losses of shape (n,), in nats.

    Raises:
        InputError: If `x` and `y` differ in length, or a label is not one of the classes.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, activation="softmax")])
    >>> membership_losses(model, np.zeros((4, 2), "float32"), np.array([0, 1, 2, 0])).round(4)
    array([1.0986, 1.0986, 1.0986, 1.0986])
    """
    sure = logit_confidences(model, x, y, batch_size=batch_size, from_logits=from_logits)
    return losses_of(sure)


def logit_confidences(model, x, y, *, batch_size: int = 256, from_logits=None) -> np.ndarray:
    """The log odds that a classifier gives to the label of every example.

    With p the probability of the label this is log(p / (1 - p)). Over models trained on different
    data it is close to normally distributed, which neither p nor the loss is.

    Args:
        model: A Keras classifier with one output of shape (batch, classes).
        x: Inputs, an array of shape (n, ...) or a nested structure of them.
        y: Labels: integers of shape (n,) or (n, 1), or one-hot of shape (n, classes).
        batch_size: Examples per forward pass.
        from_logits: Whether the model gives logits; None to find out, as the attacks do.

    Returns:
        float64 log odds of shape (n,), in nats; higher is surer.

    Raises:
        InputError: If `x` and `y` differ in length, or a label is not one of the classes.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    >>> logit_confidences(model, np.zeros((3, 2), "float32"), np.array([0, 1, 0]))
    array([0., 0., 0.])

    Reference: Carlini et al. 2022, arXiv 2112.03570, section IV-B (logit scaling).
    """
    labels = _integer_labels(y)
    lengths = {len(array) for array in keras.tree.flatten(x)}
    if lengths != {len(labels)}:
        raise InputError(
            f"x has {sorted(lengths)} examples and y has {len(labels)}; expected the same number: "
            f"pass the arrays that belong together."
        )
    found = []
    for start in range(0, len(labels), batch_size):
        stop = start + batch_size
        batch = keras.tree.map_structure(lambda array, a=start, b=stop: array[a:b], x)
        logits = keras.ops.convert_to_numpy(classification_logits(model, batch, from_logits))
        found.append(log_odds(logits, labels[start:stop]))
    return np.concatenate(found) if found else np.zeros((0,))


def log_odds(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Per-example log odds of the labelled class against all others together, in float64.

    Args:
        logits: Shape (batch, classes), two classes or more.
        labels: Integers of shape (batch,).

    Returns:
        Log odds of shape (batch,), in nats.

    Raises:
        InputError: If a label is not one of the classes.

    Example:

    >>> log_odds(np.array([[0.0, 0.0], [40.0, 0.0]]), np.array([0, 0]))
    array([ 0., 40.])
    """
    logits = np.asarray(logits, dtype=np.float64)
    classes = logits.shape[1]
    if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
        raise InputError(
            f"Labels run from {labels.min()} to {labels.max()}, but the model has {classes} "
            f"classes; expected 0 to {classes - 1}: relabel y or pass the model that fits it."
        )
    rows = np.arange(len(labels))
    others = logits - logits[rows, labels][:, None]
    others[rows, labels] = -np.inf
    peak = others.max(axis=1)
    return 0.0 - (peak + np.log(np.exp(others - peak[:, None]).sum(axis=1)))


def losses_of(log_odds: np.ndarray) -> np.ndarray:
    """Cross-entropy from log odds; small losses keep their order.

    Args:
        log_odds: Any shape, in nats.

    Returns:
        Losses of the same shape, in nats.

    Example:

    >>> losses_of(np.array([0.0, 40.0]))
    array([6.93147181e-01, 4.24835426e-18])
    """
    return np.logaddexp(0.0, -log_odds)


def _integer_labels(y) -> np.ndarray:
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] > 1:
        return labels.argmax(axis=1)
    return labels.reshape(len(labels)).astype(np.int64)
