"""From a trained Keras model to a folder that is safe to hand out."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_secure.errors import InputError
from keras_secure.export.bom import BOM_NAME, dump_bom, make_bom
from keras_secure.export.bundle import KERAS_NAME, Bundle
from keras_secure.export.card import CARD_NAME, check_metadata, dump_card, make_card
from keras_secure.export.facts import Facts
from keras_secure.export.formats import check_formats, write_formats
from keras_secure.export.hardened_model import hardened_model
from keras_secure.export.saved_model import SAVED_MODEL_NAME, write_saved_model
from keras_secure.export.smoothing import Smoothing
from keras_secure.export.staging import check_target, staged_folder
from keras_secure.export.warmup import warmup_batches, write_warmup
from keras_secure.integrity import load_private_key, sign, write_manifest


def export_hardened(
    model: Any,
    path: str | os.PathLike,
    *,
    input_guard: Any = None,
    output_guard: Any = None,
    defences: Sequence[Any] = (),
    smoothing: Smoothing | None = None,
    signatures: Sequence[str] | None = None,
    warmup: Any = (1,),
    constant_weights: bool | None = None,
    formats: Sequence[str] = (),
    calibration: Any = None,
    facts: Facts | None = None,
    private_key: Any = None,
    parity: float | int | None = None,
    metadata: dict[str, Any] | None = None,
    overwrite: bool = False,
    include_keras: bool = False,
    input_shape: tuple[int | None, ...] | None = None,
    input_dtype: str | None = None,
) -> Bundle:
    """Writes a model as a bundle: a SavedModel with its guards in the graph, a card, a signature.

    The folder holds `saved_model/`, `model_card.json`, `bom.json` (CycloneDX 1.6) and the signature
    `model.sig`, or without a key a `manifest.json`. The SavedModel needs TensorFlow alone. Its
    signatures take `x` of shape (batch, ...) and return, by name, tensors whose first axis is the
    batch:

    - `serving_default`: `predictions`; `rejected`, boolean; `status`, a code of
      `keras_secure.export.Status`, int32. Examples that are not answered get all zeros.
    - `labels`: `label`, the class, int32, -1 for examples that are not answered; `status`.
    - `probabilities`: `probabilities`, whatever the model gives; `status`.
    - `batch_status`: as `serving_default`, and `batch_status`, int32 of shape (5,): how many
      examples have each status. TensorFlow Serving's row format and its batching take no such
      output, so it stands apart.
    - `certified`, of a smoothed model: `label`, `radius` in l2, float32, and `status`.

    Everything is written beside `path` and renamed at the end, so that an error or an interruption
    leaves what was there before.

    Args:
        model: A built `keras.Model` with one input and one output, or a `SecureModel` around one.
        path: The folder to create.
        input_guard: A `keras_secure.layers.InputGuard`, or None for none: then a NaN reaches the
            model, where it may vanish without a trace (a fused ReLU can turn it into 0).
        output_guard: A `keras_secure.layers.OutputGuard`, or None for none.
        defences: Layers between the input guard and the model that keep shape and dtype, such as
            `keras_secure.layers.FeatureSqueezing`, in their order.
        smoothing: A `Smoothing`, or None: the model's answers are then votes under noise.
        signatures: Those to offer beside `serving_default`. By default `batch_status`, and where it
            is clear that the model classifies (it has an `OutputGuard`, is smoothed, or ends in a
            softmax or sigmoid) `labels` and `probabilities`, and `certified` where it is smoothed;
            no `labels` where several sigmoids answer a question each.
        warmup: Batch sizes or whole batches for the requests that TensorFlow Serving sends to each
            signature when it loads the model; () for none.
        constant_weights: Whether the weights are constants of the SavedModel's graph, which makes
            it faster, or variables, which `Bundle.load(check_weights=...)` can watch. By default
            constants, unless they take more than 128 MiB or the model updates some of them.
        formats: Files for other runtimes beside the SavedModel: `"onnx"` writes `model.onnx`,
            `"litert"` writes `model.tflite`, both with the same guards and the outputs of
            `serving_default`. Each is run beside the served function before it is kept.
        calibration: None, or some hundred examples, shape (n, ...): then the model in
            `model.tflite`, not its guards, computes in 8-bit integers, activations too, whose
            ranges are measured on them. The card tells how often the class stays the same.
        facts: What is known of the model and cannot be seen in it, for card and bill of materials.
        private_key: The private key to sign with, its unencrypted PEM file or the file's bytes;
            None leaves the bundle unsigned.
        parity: What to write to repair a damaged bundle from, as for
            `keras_secure.integrity.sign`; needs `private_key`.
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
        InputError: An argument cannot be used, `path` is taken, the model cannot be exported, or a
            format cannot hold it with its guards.

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
    check_target(_target(path), overwrite, _is_bundle)
    hardened = hardened_model(
        model, input_guard, output_guard, defences, smoothing, input_shape, input_dtype
    )
    batches = warmup_batches(warmup, hardened)
    formats = check_formats(formats, hardened, calibration)
    metadata = check_metadata(metadata)
    if facts is not None and not isinstance(facts, Facts):
        raise InputError(
            f"facts is a {type(facts).__name__}; a keras_secure.export.Facts was expected. Entries "
            "of your own go to metadata."
        )
    known = check_metadata((facts or Facts()).to_dict(), "facts")
    if parity is not None and private_key is None:
        raise InputError("parity is written with a signature. Give private_key too.")
    key = None if private_key is None else load_private_key(private_key)
    with staged_folder(path, overwrite, _is_bundle) as staging:
        outputs = write_saved_model(staging, hardened, signatures, constant_weights)
        write_warmup(staging / SAVED_MODEL_NAME, hardened, batches, outputs)
        if include_keras:
            hardened.model.save(staging / KERAS_NAME)
        files = write_formats(staging, hardened, formats, calibration)
        card = make_card(hardened, outputs, files, known, metadata)
        (staging / CARD_NAME).write_bytes(dump_card(card))
        (staging / BOM_NAME).write_bytes(dump_bom(make_bom(card, staging)))
        if key is None:
            write_manifest(staging)
        else:
            sign(staging, key, parity=parity)
    return Bundle(Path(path), card, None if key is None else key.public_key())


def _target(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike) or "\0" in os.fspath(path):
        raise InputError(f"path is {path!r}; the path of a folder was expected.")
    return Path(os.path.abspath(path))


def _is_bundle(folder: Path) -> bool:
    return (folder / CARD_NAME).is_file() and (folder / SAVED_MODEL_NAME).is_dir()
