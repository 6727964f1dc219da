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
    if not any(_adapted(layer) for layer in _flat(model)):
        return model
    if not isinstance(model, keras.Sequential) and not getattr(model, "inputs", None):
        raise InputError(
            f"{type(model).__name__} {model.name!r} has layers with LoRA and is a class of its "
            "own, which cannot be rebuilt without. Merge its kernels yourself."
        )
    merged = keras.models.clone_model(model, clone_function=_without_lora, recursive=True)
    for old, new in zip(_flat(model), _flat(merged), strict=True):
        if not _adapted(old):
            _copy(old, new)
            continue
        if getattr(old, "quantization_mode", None):
            raise InputError(
                f"Layer {old.name!r} has LoRA on weights of integers, which cannot take it in. "
                "Merge before you quantize."
            )
        adapters = {id(v) for name, v in vars(old).items() if name.startswith("lora_")}
        weights = [w for w in old.weights if id(w) not in adapters]
        # The first weight is the kernel or table; the property of that name is the adapted one.
        table = old.embeddings if isinstance(old, keras.layers.Embedding) else old.kernel
        values = [table, *weights[1:]]
        new.set_weights([keras.ops.convert_to_numpy(value) for value in values])
    return merged


def _adapted(layer: Any) -> bool:
    return bool(getattr(layer, "lora_enabled", False))


def _flat(model: Any) -> list[Any]:
    """All layers, those of models inside in the place of the model."""
    found = []
    for layer in model.layers:
        found += _flat(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def _without_lora(layer: Any) -> Any:
    config = {k: v for k, v in layer.get_config().items() if k not in ("lora_rank", "lora_alpha")}
    return type(layer).from_config(config)


def _copy(old: Any, new: Any) -> None:
    if old.weights:
        new.set_weights(old.get_weights())
