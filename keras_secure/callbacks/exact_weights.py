"""Weights files from which a model comes back bit for bit, adapters (LoRA) too.

Keras merges adapters into the kernels while it saves, and loads them as zeros, from where no
gradient leads away: training that is resumed so would learn nothing more. So what a layer with an
adapter holds is kept as it is beside what Keras writes, in a group that Keras passes over.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_secure.errors import InputError

_MOST_SAID = 600
_GROUP = "keras_secure_adapted_layers"


def save_exactly(model: Any, path: Path) -> None:
    """Writes what `model.save_weights` does, and the layers with adapters as they are.

    Args:
        model: A built model.
        path: The `.weights.h5` file.
    """
    model.save_weights(path)
    layers = _adapted(model)
    if not layers:
        return
    import h5py

    with h5py.File(path, "r+") as file:
        group = file.create_group(_GROUP)
        for place, layer in enumerate(layers):
            for number, variable in enumerate(layer.variables):
                # As bytes: HDF5 has no name for some types, such as bfloat16.
                data = np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes()
                group[f"{place}/{number}"] = np.frombuffer(data, np.uint8)


def load_exactly(model: Any, path: Path, name: Any) -> None:
    """Loads what `save_exactly` wrote.

    Args:
        model: The model, built.
        path: The `.weights.h5` file.
        name: What to call the file in errors.

    Raises:
        InputError: The model is not built, or is another one than was saved.
    """
    if not model.built:
        raise InputError(
            f"{name} cannot be loaded into a model that is not built yet: it has no weights. Call "
            "the model once on data, or its build method with the input's shape, before `fit`."
        )
    layers = _adapted(model)
    try:
        model.load_weights(path)
        if layers:
            _load_adapted(layers, path)
    # Keras has no error of its own for weights that do not fit.
    except (KeyError, OSError, TypeError, ValueError) as error:
        # Its message may go on with the values of all weights.
        said = " ".join(str(error).split("value=[")[0].split())[:_MOST_SAID]
        raise InputError(
            f"{name} does not fit this model: {said}. Build and compile the model as it was when "
            "that was saved."
        ) from error


def _load_adapted(layers: list[Any], path: Path) -> None:
    import h5py

    with h5py.File(path, "r") as file:
        group = file[_GROUP]
        if len(group) != len(layers):
            raise ValueError(f"{len(group)} layers had adapters, and {len(layers)} have now.")
        for place, layer in enumerate(layers):
            for number, variable in enumerate(layer.variables):
                present = keras.ops.convert_to_numpy(variable)
                stored = np.frombuffer(group[f"{place}/{number}"][...].tobytes(), present.dtype)
                variable.assign(stored.reshape(present.shape))


def _adapted(model: Any) -> list[Any]:
    return [each for each in model._flatten_layers() if getattr(each, "lora_enabled", False)]
