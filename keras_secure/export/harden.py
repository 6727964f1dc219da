"""From a trained Keras model to a folder that is safe to hand out."""

import os
from pathlib import Path
from typing import Any

from keras_secure.export.bundle import KERAS_NAME, Bundle
from keras_secure.export.card import CARD_NAME, check_metadata, dump_card, make_card
from keras_secure.export.saved_model import SAVED_MODEL_NAME, write_saved_model
from keras_secure.export.served import served_model
from keras_secure.export.staging import check_target, staged_folder
from keras_secure.integrity import load_private_key, sign, write_manifest


def export_hardened(
    model: Any,
    path: str | os.PathLike,
    *,
    input_guard: Any = None,
    output_guard: Any = None,
    private_key: Any = None,
    metadata: dict[str, Any] | None = None,
    overwrite: bool = False,
    include_keras: bool = False,
    input_shape: tuple[int | None, ...] | None = None,
    input_dtype: str | None = None,
) -> Bundle:
    """Writes a model as a bundle: a SavedModel with its guards in the graph, a card, a signature.

    The folder holds `saved_model/`, `model_card.json` and the signature `model.sig`, or without a
    key a `manifest.json`. The SavedModel needs TensorFlow alone: its signature `serving_default`
    takes `x` of shape (batch, ...) and returns `predictions` and `rejected` of shape (batch,).
    Rejected examples get all zeros.

    Everything is written beside `path` and renamed at the end, so that an error or an interruption
    leaves what was there before.

    Args:
        model: A built `keras.Model` with one input and one output, or a `SecureModel` around one.
        path: The folder to create.
        input_guard: A `keras_secure.layers.InputGuard`, or None for none: then a NaN reaches the
            model, where it may vanish without a trace (a fused ReLU can turn it into 0).
        output_guard: A `keras_secure.layers.OutputGuard`, or None for none.
        private_key: The private key to sign with, its unencrypted PEM file or the file's bytes;
            None leaves the bundle unsigned.
        metadata: Further entries of the card, JSON-serializable: training data, privacy spent.
        overwrite: Whether a bundle at `path` may be replaced. Other folders never are.
        include_keras: Whether to add the model as `model.keras`. That file holds the architecture
            and the exact weights for further training, without the guards, so by default it stays
            with its owner.
        input_shape: Shape of one example, for subclassed models, which do not tell it.
        input_dtype: Dtype of the inputs; the model's own when not given.

    Returns:
        The `Bundle`.

    Raises:
        InputError: An argument cannot be used, `path` is taken, or the model cannot be exported.

    Example:

    >>> import tempfile
    >>> import keras
    >>> import numpy as np
    >>> from keras_secure import layers
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     guard = layers.InputGuard(bounds=(0.0, 1.0))
    ...     bundle = export_hardened(model, f"{folder}/bundle", input_guard=guard)
    ...     bundle.load()(np.full((1, 4), np.nan))["rejected"].tolist()
    [True]

    Reference:
        RFC 8032 (Ed25519) for the signature, FIPS 180-4 (SHA-256) for the manifest.
    """
    check_target(Path(os.path.abspath(path)), overwrite, _is_bundle)
    served = served_model(model, input_guard, output_guard, input_shape, input_dtype)
    metadata = check_metadata(metadata)
    key = None if private_key is None else load_private_key(private_key)
    with staged_folder(path, overwrite, _is_bundle) as staging:
        outputs = write_saved_model(staging, served)
        if include_keras:
            served.model.save(staging / KERAS_NAME)
        card = make_card(served, outputs, metadata)
        (staging / CARD_NAME).write_bytes(dump_card(card))
        if key is None:
            write_manifest(staging)
        else:
            sign(staging, key)
    return Bundle(Path(path), card, None if key is None else key.public_key())


def _is_bundle(folder: Path) -> bool:
    return (folder / CARD_NAME).is_file() and (folder / SAVED_MODEL_NAME).is_dir()
