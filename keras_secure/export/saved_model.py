"""The SavedModel of a bundle."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from keras_secure import backend
from keras_secure.errors import InputError
from keras_secure.export.constants import with_constants
from keras_secure.export.formats import stored_compactly
from keras_secure.export.hardened_model import HardenedModel
from keras_secure.export.serving import INPUT_NAME
from keras_secure.export.signatures import signatures

SAVED_MODEL_NAME = "saved_model"

Outputs = dict[str, tuple[tuple[int | None, ...], str]]


def write_saved_model(
    folder: Path,
    hardened: HardenedModel,
    names: Sequence[str] | None = None,
    constant_weights: bool | None = None,
) -> dict[str, Outputs]:
    """Writes `saved_model/` into the folder of a bundle.

    Args:
        folder: The folder of the bundle.
        hardened: What is served.
        names: Signatures to offer; None for all that make sense.
        constant_weights: Whether the model's weights are constants of the graph; None where that is
            possible and they are small.

    Returns:
        By signature, shape and dtype of everything that it returns, by name.

    Raises:
        InputError: The model uses what a SavedModel of ours cannot keep.
    """
    # Weights that compression made integers stay integers on the disk.
    model = stored_compactly(hardened.model)
    model = with_constants(model, constant_weights, hardened.shape, hardened.dtype)
    hardened = dataclasses.replace(hardened, model=model)
    functions = signatures(hardened, names)
    try:
        return backend.save_served_model(
            str(folder / SAVED_MODEL_NAME),
            functions,
            INPUT_NAME,
            hardened.shape,
            hardened.dtype,
            hardened.variables,
        )
    except AssertionError as error:
        raise InputError(
            "The model uses a lookup table or another resource that is not a Keras variable, which "
            "a SavedModel of ours cannot keep. Preprocess before the model instead."
        ) from error
