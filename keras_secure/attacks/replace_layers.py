"""A model that shares its weights with another and differs in some of its layers."""

import functools
import inspect

import keras

from keras_secure.errors import InputError


def replace_layers(model, replacements):
    """Returns a model that shares all weights with `model`, some of its layers replaced.

    For attacks: put `keras_secure.layers.BPDA` around the layers that hide gradients, attack the
    model that comes back, and what fools it fools the model as it is, if forward passes agree.
    Nothing is copied: layers that are not replaced are the very same objects, so training
    one model trains both. Nested models are searched, too.

    Args:
        model: A built Sequential or functional model.
        replacements: Dict from a layer's name, or from a class of layers (all its instances), to a
            layer, or to a function that takes the layer and returns another. A name goes before a
            class, and a class before one it inherits from.

    Returns:
        A model of the same structure, compiled as `model` is.

    Raises:
        InputError: If the model has no structure that can be read, or a key replaces nothing.

    Example:

    >>> class Rounding(keras.layers.Layer):
    ...     def call(self, inputs):
    ...         return keras.ops.round(inputs)
    >>> hidden = keras.Sequential([keras.Input((2,)), Rounding(), keras.layers.Dense(3)])
    >>> open_model = replace_layers(hidden, {Rounding: lambda layer: keras.layers.Identity()})
    >>> open_model.layers[-1] is hidden.layers[-1]
    True

    Reference:
        Athalye, Carlini and Wagner 2018, arXiv 1802.00420, section 4.
    """
    if not _is_readable(model):
        raise InputError(
            f"{type(model).__name__} {getattr(model, 'name', '')!r} has no structure that can be "
            "read: replace_layers needs a built Sequential or functional model. In a subclassed "
            "model, set the attribute that holds the layer, or build the model without it."
        )
    if not isinstance(replacements, dict) or not replacements:
        raise InputError(
            f"replacements={replacements!r} cannot be used: give a dict from layer names or layer "
            "classes to layers or functions of a layer."
        )
    for key in replacements:
        if not isinstance(key, str) and not (
            isinstance(key, type) and issubclass(key, keras.layers.Layer)
        ):
            raise InputError(f"{key!r} names no layer: use a layer's name or a class of layers.")
    used = set()

    def replaced(layer):
        key = _key(layer, replacements)
        if key is None:
            return layer
        used.add(key)
        replacement = replacements[key]
        if not isinstance(replacement, keras.layers.Layer):
            replacement = replacement(layer)
        if not isinstance(replacement, keras.layers.Layer):
            raise InputError(
                f"The replacement of {layer.name!r} is {replacement!r}. Expected a keras layer."
            )
        return replacement

    found = _rebuilt(model, replaced, replacements)
    unused = [key for key in replacements if key not in used]
    if unused:
        names = sorted({layer.name for layer in _layers(model)})
        shown = [key if isinstance(key, str) else key.__name__ for key in unused]
        raise InputError(
            f"No layer matches {', '.join(map(repr, shown))}. The layers of {model.name!r} are "
            f"{', '.join(names)}."
        )
    return found


def _rebuilt(model, replaced, replacements):
    def clone(layer):
        # A nested model is replaced as a whole where it is named, and rebuilt only where it must
        # be: handed back as it is, it stays one object with the original.
        if _is_readable(layer) and _key(layer, replacements) is None:
            inside = any(_key(each, replacements) is not None for each in _layers(layer))
            return _rebuilt(layer, replaced, replacements) if inside else layer
        return replaced(layer)

    if isinstance(model, keras.Sequential):
        return keras.models.clone_model(model, clone_function=clone)
    return keras.models.clone_model(model, clone_function=clone, call_function=_call)


def _call(layer, *args, **kwargs):
    """Calls a layer as the one that it replaces was called, but for empty arguments of that one."""
    known = inspect.signature(layer.call).parameters.values()
    if not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in known):
        names = {each.name for each in known}
        kwargs = {name: v for name, v in kwargs.items() if v is not None or name in names}
    return layer(*args, **kwargs)


def _key(layer, replacements):
    """The most particular key that names `layer`, or None."""
    if layer.name in replacements:
        return layer.name
    return next((cls for cls in type(layer).__mro__ if cls in replacements), None)


def _layers(model):
    """All layers of a model and of the models inside it."""
    for layer in model.layers:
        yield layer
        if _is_readable(layer):
            yield from _layers(layer)


def _is_readable(model):
    """Whether the layers and their order are all that a model is."""
    if not isinstance(model, keras.Model) or not model.built:
        return False
    kind = keras.Sequential if isinstance(model, keras.Sequential) else _functional()
    # A subclass may do more in a call of its own, which a clone would lose.
    return isinstance(model, kind) and type(model).call is kind.call


@functools.cache
def _functional():
    """The class of models made from tensors, which Keras gives no public name."""
    point = keras.Input((1,))
    return type(keras.Model(point, keras.layers.Identity()(point)))
