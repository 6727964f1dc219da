"""A copy of a layer that only its own code puts together, weights and all."""

from typing import Any

import keras

from keras_secure.errors import InputError


def code_copy(part: Any) -> Any:
    """Makes the same layer or model once more, by its own class.

    Args:
        part: A built layer or model, with a `get_config` of which `from_config` makes the same, and
            a `build` that builds what is in it; a model builds itself by a call.

    Returns:
        The copy. It has values, regularizers, constraints and what is frozen from the original.

    Raises:
        InputError: The class does not make the same one again.
    """
    kind = f"{part.name!r} is a {type(part).__name__}, which only its own code can put together"
    remedy = (
        "Give the class a `get_config` that returns what its constructor needs (which takes "
        "`**kwargs` for `keras.Model`), as loading from a file needs too, and layers inside a "
        "`build`; or name other layers in `layers`."
    )
    try:
        copy, parts = _made(part, [])
        names = {id(new): old.name for old, new in _pairs(part, copy)}
        if any(names.get(id(new), new.name) != new.name for new in parts):
            # Names that Keras counts up would give the variables other paths.
            copy, _ = _made(part, [names.get(id(new), new.name) for new in parts])
    except Exception as error:  # whatever the constructor and `call` of others raise
        raise InputError(
            f"{kind}, and a copy cannot be made: {str(error).strip()[:300]}. {remedy}"
        ) from error
    kinds = [[type(layer) for layer in each._flatten_layers()] for each in (part, copy)]
    shapes = [[tuple(variable.shape) for variable in each.variables] for each in (part, copy)]
    if kinds[0] != kinds[1] or shapes[0] != shapes[1]:
        raise InputError(
            f"{kind}, and what its `get_config` and `build` make has {len(kinds[1])} layers and "
            f"{len(shapes[1])} variables, of {len(kinds[0])} and {len(shapes[0])}. {remedy}"
        )
    for layer, new in _pairs(part, copy):
        if layer.trainable != new.trainable:
            new.trainable = layer.trainable
    for variable, other in zip(part.variables, copy.variables, strict=True):
        take_over(variable, other)
    return copy


def _made(part: Any, names: list[str]) -> tuple[Any, list[Any]]:
    """A new layer, built, and what was in it before; these are given the names first."""
    copy = type(part).from_config(part.get_config())
    parts = list(copy._flatten_layers())
    for layer, name in zip(parts, names, strict=False):
        layer.name = name
    if not copy.built:
        # A model that is built by a call gives its name to no variable otherwise.
        with keras.name_scope(part.name, caller=copy):
            copy.build_from_config(part.get_build_config())
        copy.built = True
    return copy, parts


def _pairs(part: Any, copy: Any) -> list[tuple[Any, Any]]:
    return list(zip(part._flatten_layers(), copy._flatten_layers(), strict=False))


def take_over(variable: Any, other: Any) -> None:
    """Gives a variable the value, regularizer, constraint and trainability of another.

    Args:
        variable: The `keras.Variable` that has them.
        other: The one of the same shape that gets them.
    """
    other.assign(variable)
    for name in ("regularizer", "constraint"):
        if getattr(variable, name, None) is not None:
            setattr(other, name, getattr(variable, name))
    if variable.trainable != other.trainable:
        other.trainable = variable.trainable


def is_graph(model: Any) -> bool:
    """Whether Keras itself calls the parts of a model, so that they can be exchanged."""
    return isinstance(model, keras.Sequential) or (
        isinstance(model, keras.Model) and hasattr(model, "operations")
    )
