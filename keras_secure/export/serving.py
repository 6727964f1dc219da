"""The one function that a hardened model is served through."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras

from keras_secure.errors import InputError
from keras_secure.export.status import statuses

INPUT_NAME = "x"
# A power of two that keeps the sum of any finite values finite, so that only others spoil it.
_SCALE = 2.0**-64


class Answer(NamedTuple):
    """What is known of a batch once it went through everything.

    Args:
        predictions: What is told, zeros for examples that are not answered.
        status: Int32 tensor of shape (batch,), see `Status`.
        rejected: Boolean tensor of shape (batch,): the input was rejected or the model failed.
        answered: Boolean tensor of shape (batch,): neither rejected nor failed nor abstained.
    """

    predictions: Any
    status: Any
    rejected: Any
    answered: Any


def serving_function(
    model: Any,
    input_guard: Any = None,
    output_guard: Any = None,
    defences: Sequence[Any] = (),
    smoothing: Any = None,
    logits: bool | None = None,
) -> Callable[[Any], dict[str, Any]]:
    """Puts the guards around a model, for one graph that needs no code of ours.

    An example is rejected when the input guard rejects it, when the model answers it with a NaN, or
    when its guarded prediction is not finite. Rejected examples get all zeros, which no
    distribution over classes is, so that a caller who forgets `rejected` sees no confident answer.

    Args:
        model: A built Keras model with one input and one output.
        input_guard: None, or a layer that keeps the shape and has `violations(x)`.
        output_guard: None, or a layer that is called on the predictions.
        defences: Layers between the input guard and the model, in their order.
        smoothing: None, or the `Smoothing` that asks the model for votes.
        logits: Whether a single output is a logit, which smoothing has to know.

    Returns:
        A function of inputs of shape (batch, ...) that returns
        `{"predictions": (batch, ...), "rejected": bool (batch,), "status": int32 (batch,)}`.
    """
    answer = answering(model, input_guard, output_guard, defences, smoothing, logits)

    def serve(x):
        given = answer(x)
        return {
            "predictions": given.predictions,
            "rejected": given.rejected,
            "status": given.status,
        }

    return serve


def answering(
    model: Any,
    input_guard: Any,
    output_guard: Any,
    defences: Sequence[Any],
    smoothing: Any,
    logits: bool | None,
) -> Callable[[Any], Answer]:
    """As `serving_function`, which takes the same, for a function that returns an `Answer`."""

    def answer(x):
        ops = keras.ops
        passed, accepted, flagged = screened(x, input_guard)
        for layer in defences:
            passed = layer(passed)
        if smoothing is None:
            raw, decided = model(passed, training=False), None
        else:
            raw, decided = smoothing.vote(model, passed, logits)
        if not ops.is_tensor(raw):
            raise InputError(
                f"Model {model.name!r} returns a {type(raw).__name__}; the guards are defined for "
                "one tensor. Wrap it in a model with one output."
            )
        predictions, valid, confident = _released(raw, output_guard)
        if decided is not None:
            confident = decided if confident is None else confident & decided
        if accepted is None:
            accepted = ops.ones_like(valid)
        sound = accepted & valid
        answered = sound if confident is None else sound & confident
        mask = ops.reshape(answered, (-1,) + (1,) * (len(predictions.shape) - 1))
        predictions = ops.where(mask, predictions, ops.zeros((), predictions.dtype))
        status = statuses(accepted, valid, confident, flagged)
        return Answer(predictions, status, ops.logical_not(sound), answered)

    return answer


def screened(x: Any, input_guard: Any) -> tuple[Any, Any, Any]:
    """What the input guard lets pass, which examples it accepts, and which it flags, or None."""
    if input_guard is None:
        return x, None, None
    if hasattr(input_guard, "screen"):
        return input_guard.screen(x)
    return input_guard(x), keras.ops.logical_not(input_guard.violations(x)), None


def _released(raw: Any, output_guard: Any) -> tuple[Any, Any, Any]:
    """What the output guard tells, and of each example whether that is sound and confident."""
    ops = keras.ops
    if output_guard is None:
        return raw, _all_finite(raw), None
    if not hasattr(output_guard, "release"):
        predictions = output_guard(raw)
        return predictions, _no_nan(raw) & _all_finite(predictions), None
    predictions, valid, confident = output_guard.release(raw)
    axes = tuple(range(1, len(raw.shape)))
    valid = ops.all(valid, axis=axes)
    return predictions, valid, None if confident is None else ops.all(confident, axis=axes)


def _all_finite(values: Any) -> Any:
    """Whether each example holds finite values alone, shape (batch,)."""
    ops = keras.ops
    if not keras.backend.is_float_dtype(values.dtype):
        return ops.ones(ops.shape(values)[:1], "bool")
    if keras.backend.standardize_dtype(values.dtype) in ("float16", "bfloat16"):
        values = ops.cast(values, "float32")
    # One number that is not finite spoils the sum.
    return ops.isfinite(ops.sum(values * _SCALE, axis=tuple(range(1, len(values.shape)))))


def _no_nan(values: Any) -> Any:
    if not keras.backend.is_float_dtype(values.dtype):
        return True
    axes = tuple(range(1, len(values.shape)))
    return keras.ops.logical_not(keras.ops.any(keras.ops.isnan(values), axis=axes))
