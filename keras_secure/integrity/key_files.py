"""Keys in files: private ones under a passphrase, and for their owner alone."""

import os
from pathlib import Path
from typing import Any, TypeAlias

from keras_secure.errors import InputError
from keras_secure.integrity.atomic import write_atomically, write_new, writing
from keras_secure.integrity.key_encryption import encrypt_key
from keras_secure.integrity.key_pem import EXPECTED, private_key_of, public_key_of, public_pem
from keras_secure.integrity.keys import KINDS, is_private, kind_of, parts_of

KeySource: TypeAlias = Any

_MAX_BYTES = 2**16


def save_private_key(
    private_key: Any,
    path: str | os.PathLike,
    passphrase: str | bytes | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a private key as PKCS #8 PEM that only its owner can read (mode 0600).

    Args:
        private_key: The key to save.
        path: The file to create.
        passphrase: Encrypts the file when it is given, at the cost of 600,000 rounds a guess.
        overwrite: Whether a file that exists may be replaced; the key in it is then lost.

    Returns:
        The path of the file.

    Raises:
        InputError: The file exists and `overwrite` is false, the passphrase is empty, or the key is
            not a private one.

    Example:

    >>> import tempfile
    >>> from keras_secure.integrity import generate_key_pair
    >>> private_key, public_key = generate_key_pair()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_private_key(private_key, Path(folder, "signing_key.pem"), "a passphrase")
    ...     load_private_key(path, "a passphrase").public_key() == public_key
    True
    """
    from cryptography.hazmat.primitives import serialization

    key = load_private_key(private_key)
    encoding = serialization.Encoding.PEM if passphrase is None else serialization.Encoding.DER
    blocks = [
        part.private_bytes(
            encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for part in parts_of(key)
    ]
    if passphrase is not None:
        secret = _encode(passphrase)
        blocks = [encrypt_key(block, secret) for block in blocks]
    return _save(b"".join(blocks), path, 0o600, overwrite)


def save_public_key(public_key: Any, path: str | os.PathLike, overwrite: bool = False) -> Path:
    """Writes a public key as PEM.

    Args:
        public_key: The key to save.
        path: The file to create.
        overwrite: Whether a file that exists may be replaced.

    Returns:
        The path of the file.

    Raises:
        InputError: The file exists and `overwrite` is false, or the key is not a public one.

    Example:

    >>> import tempfile
    >>> from keras_secure.integrity import generate_key_pair
    >>> _, public_key = generate_key_pair()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_public_key(public_key, Path(folder, "public_key.pem"))
    ...     load_public_key(path) == public_key
    True
    """
    return _save(public_pem(load_public_key(public_key)), path, 0o644, overwrite)


def load_private_key(source: KeySource, passphrase: str | bytes | None = None) -> Any:
    """Loads a private key.

    Args:
        source: A PEM file, its bytes, or a key object, which is returned as it is.
        passphrase: The one the file was saved with.

    Returns:
        The key.

    Raises:
        InputError: There is no such file, it holds no private key or one of another kind, or the
            passphrase is missing, wrong or not needed; the message says which.

    Example:

    >>> from keras_secure.integrity import generate_key_pair
    >>> private_key, _ = generate_key_pair()
    >>> load_private_key(private_key) is private_key
    True
    """
    if kind_of(source) in KINDS and is_private(source):
        return source
    data, name = _read(source, "private")
    secret = None if passphrase is None else _encode(passphrase)
    return private_key_of(data, secret, name)


def load_public_key(source: KeySource) -> Any:
    """Loads a public key.

    Args:
        source: A PEM file, its bytes, or a key object, which is returned as it is.

    Returns:
        The key.

    Raises:
        InputError: There is no such file, or it holds no public key or one of another kind.

    Example:

    >>> from keras_secure.integrity import generate_key_pair
    >>> _, public_key = generate_key_pair()
    >>> load_public_key(public_pem(public_key)) == public_key
    True
    """
    if kind_of(source) and not is_private(source):
        return source
    data, name = _read(source, "public")
    return public_key_of(data, name)


def is_encrypted(source: KeySource) -> bool:
    """Whether a private key's file or bytes want a passphrase; an object never does.

    Raises:
        InputError: The file cannot be read.
    """
    if not isinstance(source, str | bytes | os.PathLike):
        return False
    return b"BEGIN ENCRYPTED" in _read(source, "private")[0]


def _encode(passphrase: str | bytes) -> bytes:
    secret = passphrase.encode() if isinstance(passphrase, str) else passphrase
    if not secret:
        raise InputError("The passphrase is empty; give None for a key without one.")
    return secret


def _save(data: bytes, path: str | os.PathLike, mode: int, overwrite: bool) -> Path:
    path = Path(path)
    try:
        with writing(path):
            (write_atomically if overwrite else write_new)(path, data, mode)
    except FileExistsError as error:
        raise InputError(
            f"{path} exists and was kept. Give another path, or overwrite=True to lose that key."
        ) from error
    return path


def _read(source: KeySource, kind: str) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        return source, "The given text"
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            f"A {type(source).__name__} cannot be used as {kind} key; give {EXPECTED} {kind} key, "
            "the path of its PEM file, or the file's bytes."
        )
    try:
        with open(source, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"The {kind} key file {os.fspath(source)} cannot be read: {reason}."
        ) from error
    if len(data) > _MAX_BYTES:
        raise InputError(f"{os.fspath(source)} is too large to be a key; give its PEM file.")
    return data, os.fspath(source)
