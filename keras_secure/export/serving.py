"""The one function that a hardened model is served through."""

from collections.abc import Callable
from typing import Any

import keras

from keras_secure.errors import InputError

INPUT_NAME = "x"


def serving_function(model: Any, input_guard: Any, output_guard: Any) -> Callable[[Any], dict]:
    """Puts the guards around a model, for one graph that needs no code of ours.

    An example is rejected when the input guard rejects it, when the model answers it with a NaN, or
    when its guarded prediction is not finite. Rejected examples get all zeros, which no
    distribution over classes is, so that a caller who forgets `rejected` sees no confident answer.

    Args:
        model: A built Keras model with one input and one output.
        input_guard: None, or a layer that keeps the shape and has `violations(x)`.
        output_guard: None, or a layer that is called on the predictions.

    Returns:
        A function of inputs of shape (batch, ...) that returns `{"predictions": (batch, ...),
        "rejected": bool (batch,)}`.
    """

    def serve(x):
        ops = keras.ops
        guarded = x if input_guard is None else input_guard(x)
        raw = model(guarded, training=False)
        if not ops.is_tensor(raw):
            raise InputError(
                f"Model {model.name!r} returns a {type(raw).__name__}; the guards are defined for "
                "one tensor. Wrap it in a model with one output."
            )
        predictions = raw if output_guard is None else output_guard(raw)
        rejected = _any_by_example(ops.isnan(raw)) | _any_by_example(~ops.isfinite(predictions))
        if input_guard is not None:
            rejected = rejected | input_guard.violations(x)
        mask = ops.reshape(rejected, (-1,) + (1,) * (len(predictions.shape) - 1))
        predictions = ops.where(mask, ops.zeros_like(predictions), predictions)
        return {"predictions": predictions, "rejected": rejected}

    return serve


def input_spec(
    model: Any, input_shape: tuple[int | None, ...] | None, input_dtype: str | None
) -> tuple[tuple[int | None, ...], str]:
    """Finds the shape (batch included, as None) and dtype of a model's one input.

    Args:
        model: A built Keras model.
        input_shape: Shape of one example; needed for subclassed models alone.
        input_dtype: Its dtype; the model's own, or float32, when not given.

    Returns:
        `(shape, dtype)`.

    Raises:
        InputError: The model is not built, has several inputs or outputs, or does not say what it
            takes.
    """
    if not isinstance(model, keras.Model):
        raise InputError(
            f"A {type(model).__name__} cannot be exported; a keras.Model was expected."
        )
    if not model.built:
        raise InputError(
            f"Model {model.name!r} is not built, so it has no weights to export. Call it once on "
            "data, or train it, first."
        )
    known = getattr(model, "inputs", None) or []
    outputs = getattr(model, "outputs", None) or []
    if len(known) > 1 or len(outputs) > 1:
        raise InputError(
            f"Model {model.name!r} has {len(known)} inputs and {len(outputs)} outputs; the guards "
            "are defined for one of each. Wrap it in a model with one input and one output."
        )
    if input_shape is None and not known:
        raise InputError(
            f"Model {model.name!r} does not say what it takes. Give input_shape, the shape of one "
            "example, and input_dtype if that is not float32."
        )
    shape = (None, *(known[0].shape[1:] if input_shape is None else input_shape))
    own_dtype = keras.backend.standardize_dtype(known[0].dtype) if known else "float32"
    return shape, own_dtype if input_dtype is None else input_dtype


def check_guards(input_guard: Any, output_guard: Any) -> None:
    """Raises `InputError` unless both guards offer what `serving_function` calls."""
    for guard, name in ((input_guard, "input_guard"), (output_guard, "output_guard")):
        if guard is not None and not isinstance(guard, keras.layers.Layer):
            raise InputError(
                f"{name} is a {type(guard).__name__}; a layer was expected, such as "
                f"keras_secure.layers.{'InputGuard' if name == 'input_guard' else 'OutputGuard'}()."
            )
    if input_guard is not None and not callable(getattr(input_guard, "violations", None)):
        raise InputError(
            f"input_guard is a {type(input_guard).__name__} without the method violations(x), "
            "which says what examples it rejects. Use keras_secure.layers.InputGuard."
        )


def _any_by_example(values: Any) -> Any:
    """Whether anything is true in each example, shape (batch,)."""
    return keras.ops.any(values, axis=tuple(range(1, len(values.shape))))
