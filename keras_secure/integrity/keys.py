"""Ed25519 key pairs: made, kept in PEM files, and told apart by a fingerprint."""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from keras_secure.errors import InputError
from keras_secure.integrity.atomic import write_atomically, write_new

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

KeySource: TypeAlias = "Ed25519PrivateKey | Ed25519PublicKey | bytes | str | os.PathLike"


def generate_key_pair() -> "tuple[Ed25519PrivateKey, Ed25519PublicKey]":
    """Makes a new Ed25519 key pair from the operating system's entropy.

    Returns:
        `(private_key, public_key)`, objects of the package `cryptography`.

    Example:

    >>> private_key, public_key = generate_key_pair()
    >>> fingerprint(public_key) == fingerprint(private_key.public_key())
    True

    Reference:
        RFC 8032, Edwards-Curve Digital Signature Algorithm, section 5.1.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private_key = Ed25519PrivateKey.generate()
    return private_key, private_key.public_key()


def save_private_key(
    private_key: "Ed25519PrivateKey",
    path: str | os.PathLike,
    passphrase: str | bytes | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a private key as PKCS #8 PEM that only its owner can read (mode 0600).

    Args:
        private_key: The key to save.
        path: The file to create.
        passphrase: Encrypts the file when it is given.
        overwrite: Whether a file that exists may be replaced; the key in it is then lost.

    Returns:
        The path of the file.

    Raises:
        InputError: The file exists and `overwrite` is false, or the passphrase is empty.

    Example:

    >>> import tempfile
    >>> private_key, public_key = generate_key_pair()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_private_key(private_key, Path(folder, "signing_key.pem"), "a passphrase")
    ...     load_private_key(path, "a passphrase").public_key() == public_key
    True
    """
    from cryptography.hazmat.primitives import serialization

    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(_encode(passphrase))
    data = private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    return _save(data, path, 0o600, overwrite)


def save_public_key(
    public_key: "Ed25519PublicKey", path: str | os.PathLike, overwrite: bool = False
) -> Path:
    """Writes a public key as PEM.

    Args:
        public_key: The key to save.
        path: The file to create.
        overwrite: Whether a file that exists may be replaced.

    Returns:
        The path of the file.

    Raises:
        InputError: The file exists and `overwrite` is false.

    Example:

    >>> import tempfile
    >>> _, public_key = generate_key_pair()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_public_key(public_key, Path(folder, "public_key.pem"))
    ...     load_public_key(path) == public_key
    True
    """
    return _save(public_pem(public_key), path, 0o644, overwrite)


def load_private_key(
    source: KeySource, passphrase: str | bytes | None = None
) -> "Ed25519PrivateKey":
    """Loads an Ed25519 private key.

    Args:
        source: A PEM file, its bytes, or a key object, which is returned as it is.
        passphrase: The one the file was saved with.

    Returns:
        The key.

    Raises:
        InputError: There is no such file, it holds no Ed25519 private key, or the passphrase is
            missing or wrong.

    Example:

    >>> private_key, _ = generate_key_pair()
    >>> load_private_key(private_key) is private_key
    True
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if isinstance(source, Ed25519PrivateKey):
        return source
    data, name = _read(source, "private")
    secret = None if passphrase is None else _encode(passphrase)
    try:
        key = load_pem_private_key(data, secret)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise InputError(
            f"No private key could be loaded from {name}: {error} Give an unencrypted PEM file, or "
            "the passphrase it was saved with."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(
            f"{name} holds a {type(key).__name__}; an Ed25519 private key was expected. "
            "Make one with `keras_secure.integrity.generate_key_pair`."
        )
    return key


def load_public_key(source: KeySource) -> "Ed25519PublicKey":
    """Loads an Ed25519 public key.

    Args:
        source: A PEM file, its bytes, or a key object, which is returned as it is.

    Returns:
        The key.

    Raises:
        InputError: There is no such file, or it holds no Ed25519 public key.

    Example:

    >>> _, public_key = generate_key_pair()
    >>> load_public_key(public_pem(public_key)) == public_key
    True
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if isinstance(source, Ed25519PublicKey):
        return source
    data, name = _read(source, "public")
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(
            f"{name} holds no public key in PEM form. Give the file that "
            "`keras_secure.integrity.save_public_key` wrote."
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(
            f"{name} holds a {type(key).__name__}; an Ed25519 public key was expected."
        )
    return key


def public_pem(public_key: "Ed25519PublicKey") -> bytes:
    """The PEM form of a public key."""
    from cryptography.hazmat.primitives import serialization

    return public_key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def fingerprint(public_key: KeySource) -> str:
    """The name people compare a public key by.

    Args:
        public_key: A key object, a PEM file or its bytes.

    Returns:
        `"sha256:"` and the hexadecimal SHA-256 of the key's DER form, which
        `openssl pkey -pubin -in public_key.pem -outform DER | sha256sum` prints too.

    Example:

    >>> len(fingerprint(generate_key_pair()[1]))
    71
    """
    from cryptography.hazmat.primitives import serialization

    der = load_public_key(public_key).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return "sha256:" + hashlib.sha256(der).hexdigest()


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
        return source, "the given bytes"
    if not isinstance(source, (str, os.PathLike)):
        raise InputError(
            f"A {type(source).__name__} cannot be used as {kind} key; give an Ed25519 {kind} key, "
            "the path of its PEM file, or the file's bytes."
        )
    try:
        return Path(source).read_bytes(), os.fspath(source)
    except OSError as error:
        raise InputError(
            f"The {kind} key file {source} cannot be read: {error.strerror}."
        ) from error
