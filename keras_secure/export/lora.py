"""Low-rank adaptations, merged into the weights that they adapt."""

from typing import Any

import keras

from keras_secure.errors import InputError


def merge_lora(model: keras.Model) -> keras.Model:
    """Merges what was trained by `layer.enable_lora` into the kernels.

    The merged model answers the same, at the price of a model without adaptations, and tells
    neither the weights it started from nor what was added to them.

    Args:
        model: A Sequential or functional model.

    Returns:
        The model itself where nothing is adapted; otherwise a new one, not compiled.

    Raises:
        InputError: A layer within a class of its own is adapted, or one of integers.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> model.layers[0].enable_lora(2)
    >>> len(model.weights), len(merge_lora(model).weights)
    (4, 2)

    Reference:
        Hu et al. 2021, LoRA, arXiv 2106.09685, section 4.1 (no additional inference latency).
    """
    if not any(_adapted(layer) for layer in _within(model)):
        return model
    if not isinstance(model, keras.Sequential) and not getattr(model, "inputs", None):
        raise InputError(
            f"{type(model).__name__} {model.name!r} has layers with LoRA and is a class of its "
            "own, which cannot be rebuilt without. Merge its kernels yourself."
        )
    merged = keras.models.clone_model(model, clone_function=_without_lora, recursive=True)
    for old, new in zip(_flat(model), _flat(merged), strict=True):
        _copy(old, new)
    return merged


def _adapted(layer: Any) -> bool:
    return bool(getattr(layer, "lora_enabled", False))


def _within(layer: Any) -> list[Any]:
    """A layer and all those inside of it, as the projections of an attention."""
    return list(layer._flatten_layers())


def _flat(model: Any) -> list[Any]:
    """All layers, those of models inside in the place of the model."""
    found = []
    for layer in model.layers:
        found += _flat(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def _without_lora(layer: Any) -> Any:
    return type(layer).from_config(_stripped(layer.get_config()))


def _stripped(config: Any) -> Any:
    """A configuration without adaptations, also in layers that a wrapper holds."""
    if isinstance(config, dict):
        kept = {k: v for k, v in config.items() if k not in ("lora_rank", "lora_alpha")}
        return {key: _stripped(value) for key, value in kept.items()}
    if isinstance(config, list):
        return [_stripped(value) for value in config]
    return config


def _copy(old: Any, new: Any) -> None:
    """Copies the weights of a layer, and of those inside of it, with adaptations merged."""
    if not any(_adapted(layer) for layer in _within(old)):
        if old.weights:
            new.set_weights(old.get_weights())
        return
    if _adapted(old):
        new.set_weights(_merged_weights(old))
        return
    inside = [_inside(old), _inside(new)]
    own = [_own_weights(layer, found) for layer, found in zip((old, new), inside, strict=True)]
    if len(inside[0]) != len(inside[1]) or len(own[0]) != len(own[1]):
        raise InputError(
            f"{type(old).__name__} {old.name!r} holds layers with LoRA and is rebuilt otherwise by "
            "its configuration, so nothing can be merged into it. Merge its kernels yourself."
        )
    for source, target in zip(*own, strict=True):
        target.assign(source)
    for source, target in zip(*inside, strict=True):
        _copy(source, target)


def _inside(layer: Any) -> list[Any]:
    return list(layer._flatten_layers(include_self=False, recursive=False))


def _own_weights(layer: Any, inside: list[Any]) -> list[Any]:
    """The weights that belong to a layer and to none inside of it."""
    others = {id(weight) for inner in inside for weight in inner.weights}
    return [weight for weight in layer.weights if id(weight) not in others]


def _merged_weights(layer: Any) -> list[Any]:
    if getattr(layer, "quantization_mode", None):
        raise InputError(
            f"Layer {layer.name!r} has LoRA on weights of integers, which cannot take it in. "
            "Merge before you quantize."
        )
    adapters = {id(v) for name, v in vars(layer).items() if name.startswith("lora_")}
    weights = [w for w in layer.weights if id(w) not in adapters]
    # The first weight is the kernel or table; the property of that name is the adapted one.
    table = layer.embeddings if isinstance(layer, keras.layers.Embedding) else layer.kernel
    return [keras.ops.convert_to_numpy(value) for value in (table, *weights[1:])]
