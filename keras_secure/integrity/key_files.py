"""Keys in PEM files: private ones under a passphrase, and an answer to each way to get it wrong."""

import os
import re
from pathlib import Path
from typing import Any, TypeAlias

from keras_secure.errors import InputError
from keras_secure.integrity.atomic import write_atomically, write_new
from keras_secure.integrity.hybrid import HybridPrivateKey, HybridPublicKey, is_ml_dsa
from keras_secure.integrity.key_encryption import encrypt_key
from keras_secure.integrity.keys import is_private, kind_of, parts_of

KeySource: TypeAlias = Any

_EXPECTED = "an Ed25519, an EC P-256 or a hybrid (Ed25519 and ML-DSA-65)"
_MAX_BYTES = 2**16
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


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
    if kind_of(source) and is_private(source):
        return source
    data, name = _read(source, "private")
    kinds = {match[1] for match in _BLOCK.finditer(data)}
    if b"PUBLIC KEY" in kinds:
        raise InputError(
            f"{name} holds a public key, with which nobody can sign; expected the private key that "
            "belongs to it: give that file, and keep it to yourself."
        )
    secret = None if passphrase is None else _encode(passphrase)
    keys = [_load_private_block(match[0], secret, name) for match in _BLOCK.finditer(data)]
    key = _joined(keys, HybridPrivateKey)
    if key is None or kind_of(key) not in ("ed25519", "ec-p256", "hybrid"):
        raise InputError(
            f"{name} holds {_named(keys, data)}; expected {_EXPECTED} private key. "
            "Make one with `keras-secure keygen`."
        )
    return key


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
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if kind_of(source) and not is_private(source):
        return source
    data, name = _read(source, "public")
    blocks = list(_BLOCK.finditer(data))
    if any(block[1].endswith(b"PRIVATE KEY") for block in blocks):
        raise InputError(
            f"{name} holds a private key; expected the public key that belongs to it: give that "
            "file, and let nobody have this one."
        )
    try:
        keys = [load_pem_public_key(block[0]) for block in blocks]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(
            f"{name} holds no public key that can be read ({error}). Give the PEM file that "
            "`keras_secure.integrity.save_public_key` wrote."
        ) from error
    key = _joined(keys, HybridPublicKey)
    if key is None or not kind_of(key):
        raise InputError(
            f"{name} holds {_named(keys, data)}; expected {_EXPECTED} public key in PEM form."
        )
    return key


def is_encrypted(source: KeySource) -> bool:
    """Whether a private key's file or bytes want a passphrase; an object never does.

    Raises:
        InputError: The file cannot be read.
    """
    if not isinstance(source, str | bytes | os.PathLike):
        return False
    return b"BEGIN ENCRYPTED" in _read(source, "private")[0]


def public_pem(public_key: Any) -> bytes:
    """The PEM form of a public key: one block, or two for a hybrid key."""
    from cryptography.hazmat.primitives import serialization

    return b"".join(
        part.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        for part in parts_of(public_key)
    )


def _load_private_block(block: bytes, secret: bytes | None, name: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    locked = b"ENCRYPTED" in block
    if locked and secret is None:
        raise InputError(f"{name} is encrypted; give the passphrase that it was saved with.")
    if secret is not None and not locked:
        raise InputError(f"{name} is not encrypted; leave out the passphrase.")
    try:
        return load_pem_private_key(block, secret)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        if locked and "assword" in str(error):
            raise InputError(
                f"The passphrase of {name} is wrong; give the one that it was saved with. Without "
                "it the key cannot be recovered: make a new one, and revoke this one."
            ) from error
        raise InputError(
            f"No private key could be loaded from {name}: {error}. Give the PEM file that "
            "`keras_secure.integrity.save_private_key` wrote."
        ) from error


def _joined(keys: list[Any], pair: Any) -> Any:
    """The one key that a file holds, or None."""
    if len(keys) == 1:
        return keys[0]
    if len(keys) == 2 and kind_of(keys[0]) == "ed25519" and is_ml_dsa(keys[1]):
        return pair(*keys)
    return None


def _named(keys: list[Any], data: bytes) -> str:
    if keys:
        return " and ".join(f"a key of type {type(key).__name__}" for key in keys)
    return "no key in PEM form" if data else "nothing"


def _encode(passphrase: str | bytes) -> bytes:
    secret = passphrase.encode() if isinstance(passphrase, str) else passphrase
    if not secret:
        raise InputError("The passphrase is empty; give None for a key without one.")
    return secret


def _save(data: bytes, path: str | os.PathLike, mode: int, overwrite: bool) -> Path:
    path = Path(path)
    if overwrite:
        write_atomically(path, data, mode)
        return path
    try:
        write_new(path, data, mode)
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
            f"A {type(source).__name__} cannot be used as {kind} key; give {_EXPECTED} {kind} key, "
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
