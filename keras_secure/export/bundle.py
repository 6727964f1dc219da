"""An exported model in a folder: verified first, opened second."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keras_secure import backend
from keras_secure.errors import InputError
from keras_secure.export.card import CARD_NAME, parse_card
from keras_secure.export.saved_model import SAVED_MODEL_NAME
from keras_secure.export.serving import INPUT_NAME
from keras_secure.export.signatures import DEFAULT
from keras_secure.integrity import VerificationReport, decrypt, encrypt, verify
from keras_secure.integrity.trust import as_trust
from keras_secure.integrity.weights import WeightDigests, check_share, raise_changed

KERAS_NAME = "model.keras"


@dataclass(frozen=True)
class Bundle:
    """A hardened model on disk.

    Args:
        path: Its folder.
        card: Its model card: shapes, dtypes, classes, guards, promises, versions, metadata.
        trust: Whom it is verified against before it is loaded; None for a bundle that was just
            exported without a key.
        scratch: The temporary folder that it was decrypted into, which lives as long as this.
    """

    path: Path
    card: dict[str, Any]
    trust: Any = field(default=None, repr=False, compare=False)
    scratch: Any = field(default=None, repr=False, compare=False)

    @property
    def saved_model(self) -> Path:
        """The folder that `tf.saved_model.load` and TensorFlow Serving take."""
        return self.path / SAVED_MODEL_NAME

    def verify(self) -> VerificationReport:
        """Checks every byte of the bundle once more.

        Returns:
            A `VerificationReport`; see `keras_secure.integrity.verify`.

        Raises:
            InputError: It was exported without a key, so that there is nobody to trust.
        """
        if self.trust is None:
            raise InputError(
                "The bundle was exported without a key, so nobody's signature can be verified. "
                "Export with private_key."
            )
        return verify(self.path, self.trust)

    def encrypt(self, output: str | os.PathLike, **options: Any) -> Path:
        """Encrypts the whole bundle into one file, which `open_bundle` reads.

        Args:
            output: The file to create.
            **options: For whom, as for `keras_secure.integrity.encrypt`: `recipients`,
                `passphrase` or `key`, and the rest.

        Returns:
            The path of the encrypted file.
        """
        return encrypt(self.path, output, **options)

    def load(
        self, check_weights: float = 0.0, signature: str = DEFAULT
    ) -> Callable[[Any], dict[str, np.ndarray]]:
        """Loads the model for inference, after verifying the bundle once more.

        Args:
            check_weights: Share of the weights' bytes, others at each call, that are held against
                their digests after it; where they changed in memory, that call and all later ones
                raise instead of answering: load it again. 0.01 costs a few per cent of an
                inference and sees every byte in each round of 100 calls; 0 checks nothing.
            signature: The way to ask it; `card["signatures"]` has them.

        Returns:
            A function of an array of shape (batch, ...) that returns what the signature does, by
            default `{"predictions": ..., "rejected": ..., "status": ...}`, as numpy arrays. With
            `check_weights` it raises `IntegrityError`, naming the variables.

        Raises:
            IntegrityError: A file changed since the bundle was opened.
            InputError: `check_weights` is no share, or asks to watch weights that are constants; or
                there is no such signature.
        """
        check_share(check_weights)
        if not isinstance(signature, str) or signature not in self.card["signatures"]:
            raise InputError(
                f"The bundle has no signature {signature!r}; it has "
                f"{', '.join(map(repr, sorted(self.card['signatures'])))}."
            )
        if self.trust is not None:
            self.verify().raise_if_failed()
        model, variables = backend.load_served_model(str(self.saved_model), signature)
        spec = self.card["inputs"][INPUT_NAME]
        if check_weights and self.card["num_parameters"] and not variables:
            raise InputError(
                "The weights of this bundle are constants of its graph, which nobody can watch in "
                "memory. Export with constant_weights=False for that, or give check_weights=0."
            )
        if not check_weights or not variables:
            return lambda x: model({INPUT_NAME: _as_input(x, spec["shape"], spec["dtype"])})
        digests = WeightDigests(
            {name: partial(backend.host_array, variable) for name, variable in variables.items()}
        )
        changed: set[str] = set()

        def serve(x):
            answer = model({INPUT_NAME: _as_input(x, spec["shape"], spec["dtype"])})
            changed.update(digests.check_part(check_weights))
            if changed:
                raise_changed(tuple(sorted(changed)), str(self.path))
            return answer

        return serve


def open_bundle(
    path: str | os.PathLike,
    trust: Any,
    *,
    identities: Any = (),
    passphrase: str | bytes | None = None,
    key: bytes | str | os.PathLike | None = None,
) -> Bundle:
    """Opens a bundle that a trusted key signed, and no other.

    Nothing in the bundle is interpreted before every byte of it is verified. One that is encrypted
    is decrypted into a folder of this process alone, which is removed with the `Bundle`.

    Args:
        path: The bundle's folder, or the file that `Bundle.encrypt` wrote.
        trust: The trusted public key, its PEM file or the file's bytes, or what else
            `keras_secure.integrity.verify` takes.

        identities: What decrypts it; see `keras_secure.integrity.decrypt`.
        passphrase: Or the passphrase.
        key: Or the key.

    Returns:
        A `Bundle`; `Bundle.load()` gives the function to call.

    Raises:
        IntegrityError: A file was changed, is missing or was added, or another key signed; the
            message names every file concerned.
        InputError: The key cannot be used, or there is no signed folder at `path`.

    Example:

    >>> import tempfile
    >>> import keras
    >>> from keras_secure import export, integrity
    >>> private_key, public_key = integrity.generate_key_pair()
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/bundle"
    ...     _ = export.export_hardened(model, path, private_key=private_key)
    ...     open_bundle(path, public_key).load()(np.zeros((2, 4)))["predictions"].shape
    (2, 3)
    """
    trusted = as_trust(trust)
    scratch = None
    if identities or passphrase is not None or key is not None:
        scratch = tempfile.TemporaryDirectory(prefix="keras_secure_")
        target = Path(scratch.name, "bundle")
        path = decrypt(path, target, identities=identities, passphrase=passphrase, key=key)
    verify(path, trusted).raise_if_failed()
    card_path = Path(path, CARD_NAME)
    if not card_path.is_file():
        raise InputError(
            f"{path} is signed but has no {CARD_NAME}, so it is not a bundle. Give a folder that "
            "`keras_secure.export.export_hardened` wrote."
        )
    return Bundle(Path(path), parse_card(card_path.read_bytes(), str(card_path)), trusted, scratch)


def _as_input(x: Any, shape: list[int | None], dtype: str) -> np.ndarray:
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise InputError(f"Got inputs that are no array: {error}.") from error
    if array.dtype.kind == "O":
        raise InputError(f"Got a {type(x).__name__} of objects; one array of numbers was expected.")
    fits = array.ndim == len(shape) and all(
        expected in (None, size) for size, expected in zip(array.shape, shape, strict=True)
    )
    if not fits:
        expected = ", ".join("any" if size is None else str(size) for size in shape)
        raise InputError(f"Got inputs of shape {array.shape}; ({expected}) was expected.")
    if dtype == "bfloat16":  # no dtype of numpy's own
        return array.astype("float32")
    kind = np.dtype(dtype).kind
    lossy = (array.dtype.kind == "f" and kind != "f") or (array.dtype.kind != "b" and kind == "b")
    if lossy or array.dtype.kind not in "biuf":
        raise InputError(f"Got inputs of dtype {array.dtype}; {dtype} was expected.")
    if kind in "iu" and array.dtype.kind in "iu" and array.size:
        # A number that is cut to fewer bits may become one that the input guard takes for valid.
        lowest, highest, bounds = int(array.min()), int(array.max()), np.iinfo(dtype)
        if lowest < bounds.min or highest > bounds.max:
            raise InputError(
                f"Got inputs from {lowest} to {highest}, which {dtype} does not hold; numbers from "
                f"{bounds.min} to {bounds.max} were expected."
            )
    # What overflows becomes infinite, which is the input guard's business and not a warning.
    with np.errstate(over="ignore"):
        return array.astype(dtype)
