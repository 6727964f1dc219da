"""A copy of a model with some of its layers replaced, weights and all."""

from collections.abc import Callable
from typing import Any

import keras

from keras_secure.compression.code_copy import is_graph, take_over
from keras_secure.errors import InputError


def rebuild(
    model: Any,
    replacement: Callable[[Any], Any],
    before: Callable[[Any], Any] = lambda layer: None,
) -> tuple[keras.Model, list[tuple[Any, Any]]]:
    """Copies a model, layer by layer.

    Args:
        model: A built model; left as it is.
        replacement: Function from a layer, or a model of a class of its own, to a new one, or to
            None for a plain copy. The new one has the same kernels and bias and is not built, or
            it is built and has taken over what it needs.
        before: Function from a layer to a function that the inputs of its replacement go through
            first, or to None. If there is one, Sequential models become functional ones.

    Returns:
        The copy, and the pairs of a replaced layer and its replacement. Values, regularizers,
        constraints and whether it is trained are taken over for every weight that both have. What
        a compiled model was compiled with is taken over too.

    Raises:
        InputError: Something is no model, or shares a weight with what is copied apart from it.
    """
    if not isinstance(model, keras.Model):
        raise InputError(f"A {type(model).__name__} was given; a keras.Model was expected.")
    copies: list[tuple[Any, Any]] = []
    replaced: list[tuple[Any, Any]] = []
    taken: list[tuple[Any, Any]] = []
    made: dict[int, Any] = {}
    steps: dict[int, Any] = {}

    def clone(layer):
        # What several models inside share, their copies share too.
        if id(layer) not in made:
            made[id(layer)] = clone_model(layer) if is_graph(layer) else clone_layer(layer)
        return made[id(layer)]

    def clone_layer(layer):
        new = replacement(layer) if isinstance(layer, keras.layers.Layer) else None
        if new is not None:
            (taken if new.built else replaced).append((layer, new))
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

    copy = clone(model)
    _check_ties([layer for layer, _ in copies + replaced + taken])
    if model.compiled and not copy.compiled:
        copy.compile_from_config(model.get_compile_config())
    if not copy.built:
        copy.build(model.input_shape)
    for layer, new in copies:
        for variable, other in zip(layer.variables, new.variables, strict=True):
            take_over(variable, other)
    for layer, new in replaced:
        shared = {variable.name: variable for variable in layer.variables}
        for other in new.variables:
            if other.name in shared:
                take_over(shared[other.name], other)
    return copy, replaced + taken


def _check_ties(layers: list[Any]) -> None:
    """Refuses layers one of whose variables is another's too, since their copies' are not."""
    owners: dict[int, Any] = {}
    for layer in layers:
        for variable in layer.variables:
            other = owners.setdefault(id(variable), layer)
            if other is not layer:
                raise InputError(
                    f"Layers {other.name!r} and {layer.name!r} share the weight {variable.path}, "
                    "and copies of them would not. Put both into one class that makes them, or "
                    "compress after training, with keras_secure.compression.quantize."
                )
