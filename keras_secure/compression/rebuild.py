"""A copy of a model with some of its layers replaced, weights and all."""

from collections.abc import Callable
from typing import Any

import keras

from keras_secure.errors import InputError


def rebuild(
    model: Any,
    replacement: Callable[[Any], Any],
    before: Callable[[Any], Any] = lambda layer: None,
) -> tuple[keras.Model, list[tuple[Any, Any]]]:
    """Copies a model, layer by layer.

    Args:
        model: A built Sequential or functional model, nested ones included; left as it is.
        replacement: Function from a layer to a new one of the same kernels and bias, not built,
            or to None for a plain copy.
        before: Function from a layer to a function that the inputs of its replacement go through
            first, or to None. If there is one, Sequential models become functional ones.

    Returns:
        The copy, and the pairs of a replaced layer and its replacement. Values, regularizers,
        constraints and whether it is trained are taken over for every weight that both have.

    Raises:
        InputError: The model is subclassed, so that only its code knows how it is built.
    """
    if not isinstance(model, keras.Model):
        raise InputError(f"A {type(model).__name__} was given; a keras.Model was expected.")
    copies: list[tuple[Any, Any]] = []
    replaced: list[tuple[Any, Any]] = []

    steps: dict[int, Any] = {}

    def clone(layer):
        if isinstance(layer, keras.Model) and _is_graph(layer):
            return clone_model(layer)
        new = replacement(layer) if isinstance(layer, keras.layers.Layer) else None
        if new is not None:
            replaced.append((layer, new))
            steps[id(new)] = before(layer)
            return new
        new = layer.__class__.from_config(layer.get_config())
        if isinstance(layer, keras.layers.Layer):
            copies.append((layer, new))
        return new

    def call(layer, *args, **kwargs):
        step = steps.get(id(layer))
        if step is not None:
            args = (step(args[0]), *args[1:])
        return layer(*args, **kwargs)

    has_steps = any(before(layer) for layer in model._flatten_layers())

    def clone_model(part):
        if not has_steps:
            return keras.models.clone_model(part, clone_function=clone)
        if isinstance(part, keras.Sequential):
            part = keras.Model(part.inputs[0], part.outputs[0], name=part.name)
        return keras.models.clone_model(part, clone_function=clone, call_function=call)

    try:
        copy = clone_model(model)
    except ValueError as error:
        if "only supported for Sequential" not in str(error):
            raise
        raise InputError(
            f"{model.name!r} is a {type(model).__name__}, a subclassed model, which cannot be "
            "rebuilt layer by layer. Build it from Sequential or functional parts, and give these; "
            "of a SecureModel, give its `model`."
        ) from error
    if not copy.built:
        copy.build(model.input_shape)
    for layer, new in copies:
        for variable, other in zip(layer.variables, new.variables, strict=True):
            _take_over(variable, other)
    for layer, new in replaced:
        shared = {variable.name: variable for variable in layer.variables}
        for other in new.variables:
            if other.name in shared:
                _take_over(shared[other.name], other)
    return copy, replaced


def _is_graph(model: Any) -> bool:
    """Whether Keras itself calls the parts of a model, so that they can be exchanged."""
    return isinstance(model, keras.Sequential) or hasattr(model, "operations")


def _take_over(variable: Any, other: Any) -> None:
    other.assign(variable)
    for name in ("regularizer", "constraint"):
        if getattr(variable, name, None) is not None:
            setattr(other, name, getattr(variable, name))
    if variable.trainable != other.trainable:
        other.trainable = variable.trainable
