"""Whether a loss can be told apart by example, checked before the first private step."""

import numpy as np
from keras import ops, tree

from keras_secure.errors import PrivacyError

_TOLERANCE = 1e-4


def check_loss(loss, y, y_pred, sample_weight=None):
    """Raises unless the loss of one example stays as it is when the other examples change.

    Args:
        loss: A `PerExampleLoss`.
        y: Nested targets of three examples.
        y_pred: The predictions for them.
        sample_weight: Optional weights.

    Raises:
        PrivacyError: if the loss mixes examples, or is not one number per example.

    Example:

    >>> import keras
    >>> from keras_secure.objectives import PerExampleLoss
    >>> def centred(y, y_pred):
    ...     return keras.ops.square(y_pred - keras.ops.mean(y_pred, axis=0))[:, 0]
    >>> check_loss(PerExampleLoss(centred), ops.zeros((3, 1)), ops.ones((3, 1)))
    Traceback (most recent call last):
        ...
    keras_secure.errors.PrivacyError: The loss of one example changes when ...
    """
    size = tree.flatten(y_pred)[0].shape[0]
    values = loss(y, y_pred, sample_weight)
    if tuple(values.shape) != (size,):
        raise PrivacyError(
            f"The loss has the shape {tuple(values.shape)} for {size} examples, so it cannot be "
            "clipped by example. Return one value per example, of shape (batch, ...)."
        )
    mates = tree.map_structure(_swapped, (y, sample_weight))
    others = loss(mates[0], tree.map_structure(_replaced, y_pred), mates[1])
    expected, got = (float(ops.convert_to_numpy(v)[0]) for v in (values, others))
    if not np.isclose(expected, got, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=False):
        raise PrivacyError(
            "The loss of one example changes when the other examples of the batch change, so no "
            "example's influence can be bounded. Compute the loss of each example from its own "
            "targets and predictions only."
        )


def _swapped(leaf):
    return None if leaf is None else ops.concatenate([leaf[:1], ops.flip(leaf[1:], axis=0)])


def _replaced(leaf):
    return ops.concatenate([leaf[:1], 3.0 * ops.flip(leaf[1:], axis=0) + 1.0])
