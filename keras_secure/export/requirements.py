"""What a model and the layers around it must be to be served."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_secure.arguments import is_integer
from keras_secure.errors import InputError

_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_DTYPES = ("float16", "bfloat16", "float32", "float64", *_INTEGERS, "bool")


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
        remedy = (
            " Rebuild it with keras_secure.export.from_tf_keras."
            if type(model).__module__.startswith("tf_keras.")
            else ""
        )
        raise InputError(
            f"A {type(model).__name__} cannot be exported; a keras.Model was expected.{remedy}"
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
    shape = tuple(known[0].shape[1:]) if known else None
    if shape is None or input_shape is not None:
        shape = _checked_shape(input_shape, shape)
    own_dtype = keras.backend.standardize_dtype(known[0].dtype) if known else "float32"
    dtype = own_dtype if input_dtype is None else input_dtype
    if dtype not in _DTYPES:
        remedy = (
            " Text is looked up in tables, which a SavedModel of ours cannot keep: export the part "
            "of the model behind the lookup, and look up before it is asked."
            if dtype == "string"
            else ""
        )
        raise InputError(
            f"Inputs of dtype {dtype!r} cannot be guarded; expected one of {', '.join(_DTYPES)}."
            f"{remedy}"
        )
    return (None, *shape), dtype


def _checked_shape(given: Any, own: tuple[int | None, ...] | None) -> tuple[int | None, ...]:
    """The shape of one example that was given, if it is one and agrees with the model's own."""
    whole = isinstance(given, list | tuple) and all(
        size is None or (is_integer(size) and size >= 0) for size in given
    )
    if not whole:
        raise InputError(
            f"input_shape is {given!r}; a tuple of sizes without the batch was expected, such as "
            "(28, 28, 1), with None for sizes that vary."
        )
    fits = own is None or (
        len(own) == len(given)
        and all(size in (None, new) for size, new in zip(own, given, strict=True))
    )
    if not fits:
        raise InputError(
            f"input_shape is {tuple(given)!r}, and the model takes examples of shape {own}. Leave "
            "input_shape out."
        )
    return tuple(None if size is None else int(size) for size in given)


def check_stateless(model: keras.Model) -> None:
    """Raises `InputError` if a recurrent layer goes on where the batch before left it."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.RNN) and layer.stateful:
            raise InputError(
                f"Layer {layer.name!r} keeps its state from one batch to the next, so what one "
                "client asks would shape the answer to another. Build it with stateful=False."
            )


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


def check_defences(
    defences: Any, shape: Sequence[int | None], dtype: str
) -> tuple[keras.layers.Layer, ...]:
    """Builds the layers in front of a model, which must hand on what it takes.

    Args:
        defences: A list of layers.
        shape: Shape of the inputs, None for the batch.
        dtype: Dtype of the inputs.

    Returns:
        The layers.

    Raises:
        InputError: They are no layers, or change the shape or dtype.
    """
    if not isinstance(defences, list | tuple):
        raise InputError(f"defences is a {type(defences).__name__}; a list of layers was expected.")
    value = keras.KerasTensor(shape, dtype=dtype)
    for layer in defences:
        if not isinstance(layer, keras.layers.Layer):
            raise InputError(
                f"defences holds a {type(layer).__name__}; layers were expected, such as "
                "keras_secure.layers.FeatureSqueezing(4)."
            )
        handed = layer(value)
        found = (tuple(handed.shape), keras.backend.standardize_dtype(handed.dtype))
        if found != (tuple(shape), dtype):
            raise InputError(
                f"Layer {layer.name!r} of the defences turns {dtype} of shape {tuple(shape)} into "
                f"{found[1]} of shape {found[0]}, which the model was not built for. Give layers "
                "that keep both, or put this one into the model."
            )
    return tuple(defences)
