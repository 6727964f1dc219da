"""The named ways to ask a served model."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from keras_secure import backend
from keras_secure.errors import InputError
from keras_secure.export.serving import answering, screened
from keras_secure.export.status import Status, counted

DEFAULT = "serving_default"
LABELS = "labels"
PROBABILITIES = "probabilities"
BATCH_STATUS = "batch_status"
CERTIFIED = "certified"
NAMES = (DEFAULT, LABELS, PROBABILITIES, BATCH_STATUS, CERTIFIED)

Function = Callable[[Any], dict[str, Any]]


def signatures(hardened: Any, names: Sequence[str] | None) -> dict[str, Function]:
    """The functions that a SavedModel offers.

    Args:
        hardened: The `HardenedModel`.
        names: Those to offer beside `serving_default`; None for all that make sense, see
            `export_hardened`.

    Returns:
        Functions of inputs of shape (batch, ...) that return named tensors, by name.

    Raises:
        InputError: A name is unknown, or the model cannot be asked so.
    """
    answer = backend.compiled(answering(*hardened.parts))
    makers: dict[str, Callable[[], Function]] = {
        DEFAULT: lambda: _predictions(answer),
        LABELS: lambda: _labels(answer, _threshold(hardened)),
        PROBABILITIES: lambda: _probabilities(answer, _gives_logits(hardened)),
        BATCH_STATUS: lambda: _batch_status(answer),
        CERTIFIED: lambda: _certified(hardened),
    }
    if names is None:
        names = [name for name in NAMES if _makes_sense(name, hardened)]
    listed = isinstance(names, Iterable) and not isinstance(names, str)
    if not listed or any(name not in NAMES for name in names):
        raise InputError(
            f"signatures={names!r} cannot be used: give some of {', '.join(map(repr, NAMES))}."
        )
    for name in names:
        _check(name, hardened)
    return {name: makers[name]() for name in dict.fromkeys((DEFAULT, *names))}


def _makes_sense(name: str, hardened: Any) -> bool:
    if name in (DEFAULT, BATCH_STATUS):
        return True
    if name == CERTIFIED:
        return hardened.smoothing is not None
    if getattr(hardened.output_guard, "labels_only", False) and name == PROBABILITIES:
        return False
    if hasattr(hardened.output_guard, "release") or hardened.smoothing is not None:
        return True
    if name == LABELS and hardened.several:
        return False  # the one that is largest says nothing of the others
    # A last layer without an activation may as well be that of a regression.
    return hardened.output_guard is None and hardened.logits is False


def _check(name: str, hardened: Any) -> None:
    if name == CERTIFIED and hardened.smoothing is None:
        raise InputError(
            "The signature 'certified' proves radii of a smoothed model. Give smoothing too."
        )
    if name == PROBABILITIES and getattr(hardened.output_guard, "labels_only", False):
        raise InputError(
            "The signature 'probabilities' was asked for, and the output guard tells labels only. "
            "Leave one of them out."
        )


def _gives_logits(hardened: Any) -> bool:
    """Whether the predictions that are told are logits."""
    if hardened.output_guard is not None or hardened.smoothing is not None:
        return False
    if hardened.logits is None:
        raise InputError(
            f"Nothing tells whether the outputs of {hardened.model.name!r} are logits. Give an "
            "OutputGuard with from_logits=True or False."
        )
    return hardened.logits


def _threshold(hardened: Any) -> float:
    """Above which a single output stands for the second class."""
    return 0.0 if _gives_logits(hardened) else 0.5


def _predictions(answer: Callable) -> Function:
    def predictions(x):
        given = answer(x)
        return {
            "predictions": given.predictions,
            "rejected": given.rejected,
            "status": given.status,
        }

    return predictions


def _batch_status(answer: Callable) -> Function:
    def batch_status(x):
        return {**_predictions(answer)(x), "batch_status": counted(answer(x).status)}

    return batch_status


def _labels(answer: Callable, threshold: float) -> Function:
    def labels(x):
        ops = keras.ops
        given = answer(x)
        values = given.predictions
        if len(values.shape) == 1:
            label = ops.cast(values > threshold, "int32")
        elif values.shape[-1] == 1:
            label = ops.cast(values[..., 0] > threshold, "int32")
        else:
            label = ops.cast(ops.argmax(values, axis=-1), "int32")
        return {"label": _where(given.answered, label, -1), "status": given.status}

    return labels


def _probabilities(answer: Callable, from_logits: bool) -> Function:
    def probabilities(x):
        ops = keras.ops
        given = answer(x)
        values = given.predictions
        if from_logits:
            values = ops.cast(values, "float32")
            # Where the batch is the only axis there is one value for each example.
            single = len(values.shape) == 1 or values.shape[-1] == 1
            values = ops.sigmoid(values) if single else ops.softmax(values, axis=-1)
        return {"probabilities": _where(given.answered, values, 0), "status": given.status}

    return probabilities


def _certified(hardened: Any) -> Function:
    def certified(x):
        ops = keras.ops
        passed, accepted, _ = screened(x, hardened.input_guard)
        for layer in hardened.defences:
            passed = layer(passed)
        label, radius = hardened.smoothing.certify(hardened.model, passed, hardened.logits)
        accepted = ops.ones_like(radius, "bool") if accepted is None else accepted
        proved = accepted & (radius > 0)
        status = ops.where(proved, int(Status.OK), int(Status.ABSTAINED))
        status = ops.where(accepted, status, int(Status.REJECTED))
        return {
            "label": _where(proved, label, -1),
            "radius": _where(proved, radius, 0),
            "status": ops.cast(status, "int32"),
        }

    return certified


def _where(answered: Any, values: Any, otherwise: float) -> Any:
    ops = keras.ops
    mask = ops.reshape(answered, (-1,) + (1,) * (len(values.shape) - 1))
    return ops.where(mask, values, ops.cast(otherwise, values.dtype))
