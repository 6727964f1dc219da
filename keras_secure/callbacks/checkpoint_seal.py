"""Checkpoints sealed when they are written, and proven and opened before they are used."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_secure.callbacks.atomic_checkpoint import WEIGHTS
from keras_secure.callbacks.exact_weights import save_exactly
from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity import decrypt, encrypt, load_private_key, sign, verify

_ENCRYPTED = WEIGHTS + ".enc"


class CheckpointSeal:
    """Signs the folder of a checkpoint, encrypts its weights if asked to, and opens it again.

    Args:
        signing_key: What `keras_secure.integrity.sign` takes.
        trust: Whom to believe; None for the public halves of `signing_key`.
        encryption: What `keras_secure.integrity.encrypt` takes; nothing is encrypted if all of it
            is empty.
        decryption: What `keras_secure.integrity.decrypt` takes.
        plain: The folder that holds plaintext while it is needed, of this seal alone.
    """

    def __init__(
        self,
        signing_key: Any,
        trust: Any,
        encryption: Mapping[str, Any],
        decryption: Mapping[str, Any],
        plain: Path,
    ):
        several = signing_key if isinstance(signing_key, list | tuple) else [signing_key]
        self._signers = [load_private_key(each) for each in several]
        self.trust = [each.public_key() for each in self._signers] if trust is None else trust
        self.plain = plain
        self._encryption, self._decryption = encryption, decryption

    @property
    def encrypts(self) -> bool:
        """Whether weights are encrypted."""
        return _is_given(self._encryption)

    def write_weights(self, model: Any, folder: Path) -> None:
        """Writes a model's weights into a folder, where they are never in the clear."""
        with self._private_folder() as private:
            save_exactly(model, private / WEIGHTS)
            encrypt(private / WEIGHTS, folder / _ENCRYPTED, **self._encryption)

    def close(self, folder: Path, serial: int) -> None:
        """Signs all that is in a folder."""
        sign(folder, self._signers, serial=serial)

    @contextlib.contextmanager
    def opened(self, path: Path) -> Iterator[Path]:
        """Gives a private copy of a checkpoint, verified and decrypted, for as long as it is used.

        Raises:
            IntegrityError: It is not what a trusted key signed, or cannot be decrypted.
            InputError: It is encrypted, and nothing was given to decrypt it.
        """
        with self._private_folder() as private:
            _copy_files(path, private)
            try:
                report = verify(private, self.trust, check_modes=False)
            except InputError as error:
                raise IntegrityError(str(error)) from error
            if not report.ok:
                raise IntegrityError("; ".join(report.describe()))
            if (private / _ENCRYPTED).exists():
                if not _is_given(self._decryption):
                    raise InputError(
                        f"The weights in {path} are encrypted. Give the identities, the passphrase "
                        "or the key that decrypts them."
                    )
                decrypt(private / _ENCRYPTED, private / WEIGHTS, **self._decryption)
            yield private

    def remove_plaintext(self) -> None:
        """Removes what a killed fit left in the clear."""
        shutil.rmtree(self.plain, ignore_errors=True)

    @contextlib.contextmanager
    def _private_folder(self) -> Iterator[Path]:
        self.remove_plaintext()
        self.plain.mkdir(mode=0o700)
        try:
            yield self.plain
        finally:
            self.remove_plaintext()


def plain_folder(scratch: Path, directory: Path) -> Path:
    """Where plaintext of the checkpoints in `directory` lies.

    One name for each directory, so that the next fit removes what a killed one left.
    """
    mark = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:16]
    return scratch / f".checkpoint-{mark}.part"


def _is_given(options: Mapping[str, Any]) -> bool:
    return any(value is not None and value != () and value != [] for value in options.values())


def _copy_files(path: Path, folder: Path) -> None:
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if not entry.is_file(follow_symlinks=False):
                    raise IntegrityError(f"{entry.name!r} in it is no plain file")
                shutil.copyfile(entry.path, folder / entry.name, follow_symlinks=False)
    except OSError as error:
        raise IntegrityError(f"it cannot be read: {error}") from error
