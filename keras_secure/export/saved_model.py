"""The SavedModel of a bundle."""

from pathlib import Path

from keras_secure import backend
from keras_secure.errors import InputError
from keras_secure.export.served import ServedModel
from keras_secure.export.serving import INPUT_NAME

SAVED_MODEL_NAME = "saved_model"


def write_saved_model(
    folder: Path, served: ServedModel
) -> dict[str, tuple[tuple[int | None, ...], str]]:
    """Writes `saved_model/` into the folder of a bundle.

    Args:
        folder: The folder of the bundle.
        served: What is served.

    Returns:
        Shape and dtype of everything that `serving_default` returns, by name.

    Raises:
        InputError: The model uses what a SavedModel of ours cannot keep.
    """
    try:
        return backend.save_served_model(
            str(folder / SAVED_MODEL_NAME), served.function, INPUT_NAME, served.shape, served.dtype,
            served.variables,
        )  # fmt: skip
    except AssertionError as error:
        raise InputError(
            "The model uses a lookup table or another resource that is not a Keras variable, which "
            "a SavedModel of ours cannot keep. Preprocess before the model instead."
        ) from error
