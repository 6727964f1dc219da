"""Whether losses can be told apart by example, checked before the first private step."""

import keras
import numpy as np
from keras import ops, tree

from keras_secure import backend
from keras_secure.errors import PrivacyError

_TOLERANCE = 1e-4
_REMEDY = (
    "so no example's influence can be bounded. Compute the loss of each example from its own "
    "targets and predictions only."
)


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
    # The first and the last example take turns: a sum that runs over the batch shows in one only.
    for kept in (0, size - 1):
        given, weights = _mates((y, sample_weight), kept, _other)
        alike, alike_weights = _mates((y, sample_weight), kept, _same)
        # Mates that are worse, and mates that are no worse: one of the two changes a ranking.
        others = (
            loss(given, _mates(y_pred, kept, _strange), weights),
            loss(alike, _mates(y_pred, kept, _same), alike_weights),
        )
        if not all(_is_close(values[kept], other[kept]) for other in others):
            raise PrivacyError(
                "The loss of one example changes when the other examples of the batch change, "
                f"{_REMEDY}"
            )
        _check_gradient(loss, y, y_pred, sample_weight, kept)


def check_objective(objective, model, loss, x, y, sample_weight=None):
    """Raises unless the objective gives each example a loss of its own inputs and targets.

    Args:
        objective: A `keras_secure.objectives.Objective`.
        model: The model in training.
        loss: The compiled `PerExampleLoss`.
        x: Nested inputs of three examples.
        y: Nested targets.
        sample_weight: Optional weights.

    Raises:
        PrivacyError: if what `perturb` or the objective computes mixes examples.
    """
    for part in objective.parts():
        if part.mixes_examples:
            name = type(part).__name__
            raise PrivacyError(f"{name} puts several examples into one loss, {_REMEDY}")
        if part.reads_weights:
            raise PrivacyError(
                f"{type(part).__name__} reads weights beside the layers' own forward pass, where "
                "no per-example gradient is formed, so none would be clipped in full. Train "
                "without a DPOptimizer, or with AdversarialTraining or TRADES."
            )

    def losses(x, y, sample_weight):
        # Stateless calls start from the same seeds, so random starts and dropout are the same.
        with keras.StatelessScope():
            perturbed = objective.perturb(model, x, y, loss)
            return objective(model, x, y, perturbed, loss, sample_weight)[0]

    values = losses(x, y, sample_weight)
    for kept in (0, values.shape[0] - 1):
        others = losses(*_mates((x, y, sample_weight), kept, _other))
        if not _is_close(values[kept], others[kept]):
            raise PrivacyError(
                f"{type(objective).__name__} gives one example another loss when the other "
                f"examples of the batch change, {_REMEDY}"
            )


def _check_gradient(loss, y, y_pred, sample_weight, kept):
    """Refuses influence that is too faint for a comparison of values."""
    leaves = tree.flatten(y_pred)
    for position, leaf in enumerate(leaves):

        def response(values, position=position):
            changed = [values if i == position else other for i, other in enumerate(leaves)]
            return loss(y, tree.pack_sequence_as(y_pred, changed), sample_weight)[kept]

        mask = getattr(leaf, "_keras_mask", None)
        if mask is not None or not keras.backend.is_float_dtype(_dtype(leaf)):
            continue
        _, gradient = backend.input_gradient(response, leaf)
        sizes = np.abs(ops.convert_to_numpy(ops.cast(gradient, "float32")))
        sizes = np.where(np.isfinite(sizes), sizes, 0.0)
        if np.delete(sizes, kept, axis=0).max(initial=0.0) > 1e-6 * sizes[kept].max(initial=0.0):
            raise PrivacyError(
                "The gradient of one example's loss reaches the predictions for other examples, "
                f"{_REMEDY}"
            )


def _mates(nested, kept, change):
    """Replaces every row but `kept`; None stays None."""

    def replaced(leaf):
        if leaf is None:
            return None
        rows = [
            leaf[row : row + 1] if row == kept else change(leaf, row, kept)
            for row in range(leaf.shape[0])
        ]
        result = ops.concatenate(rows)
        mask = getattr(leaf, "_keras_mask", None)
        if mask is not None:
            result._keras_mask = _mates(mask, kept, _same if change is _same else _other)
        return result

    return tree.map_structure(replaced, nested)


def _other(leaf, row, kept):
    """Another mate's row, turned around within, so that integers stay in their range."""
    rows = [index for index in range(leaf.shape[0]) if index not in (row, kept)]
    chosen = leaf[rows[0] : rows[0] + 1]
    return ops.flip(chosen, axis=1) if len(leaf.shape) > 1 else chosen


def _strange(leaf, row, kept):
    other = _other(leaf, row, kept)
    return 3.0 * other + 1.0 if keras.backend.is_float_dtype(_dtype(other)) else other


def _same(leaf, row, kept):
    return leaf[kept : kept + 1]


def _is_close(first, second):
    one, other = (float(ops.convert_to_numpy(value)) for value in (first, second))
    return bool(np.isclose(one, other, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=False))


def _dtype(tensor):
    return keras.backend.standardize_dtype(tensor.dtype)
