"""Which kernels of a model a call means."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_secure.compression.kernels import Kernel, model_kernels
from keras_secure.errors import InputError


def choose_kernels(model: Any, layers: str | Sequence[str] | None = None) -> dict[str, Kernel]:
    """Finds the kernels to compress.

    Args:
        model: A built Keras model.
        layers: Names of layers, all of whose kernels are meant; by default every kernel of Dense,
            EinsumDense and convolution layers.

    Returns:
        Path of the variable to `Kernel`, in the order of the model.

    Raises:
        InputError: The model is not built or has no such kernel, or one with LoRA is meant.
    """
    if not isinstance(model, keras.Model):
        raise InputError(
            f"A {type(model).__name__} cannot be compressed; a keras.Model was expected."
        )
    if not model.built:
        raise InputError(
            f"Model {model.name!r} is not built, so it has no weights to compress. Call it once on "
            "data, or build it, first."
        )
    adapted = [
        part.name for part in model._flatten_layers() if getattr(part, "lora_enabled", False)
    ]
    if adapted and layers is None:
        raise InputError(
            f"Layer {adapted[0]!r} has LoRA, so its kernel is a sum that cannot be compressed. "
            "Give keras_secure.export.merge_lora(model), or name the other layers in `layers`."
        )
    present = model_kernels(model)
    if not present:
        raise InputError(
            f"Model {model.name!r} has no kernel to compress: Dense, EinsumDense and convolution "
            "layers have them."
        )
    if layers is None:
        return present
    wanted = [layers] if isinstance(layers, str) else list(layers)
    known = {kernel.layer.name for kernel in present.values()}
    missing = [name for name in wanted if name not in known]
    if missing or not wanted:
        raise InputError(
            f"layers={layers!r} names {missing or 'nothing'}; the layers of model {model.name!r} "
            f"with a kernel to compress are {', '.join(sorted(known))}."
        )
    return {path: kernel for path, kernel in present.items() if kernel.layer.name in wanted}
