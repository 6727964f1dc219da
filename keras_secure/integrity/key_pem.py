"""Keys as PEM text: what a text holds, and an answer to each way to get it wrong."""

import re
from typing import Any

from keras_secure.errors import InputError
from keras_secure.integrity.hybrid import HybridPrivateKey, HybridPublicKey, is_ml_dsa
from keras_secure.integrity.keys import kind_of, parts_of

EXPECTED = "an Ed25519, an EC P-256 or a hybrid (Ed25519 and ML-DSA-65)"

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


def public_pem(public_key: Any) -> bytes:
    """The PEM form of a public key: one block, or two for a hybrid key."""
    from cryptography.hazmat.primitives import serialization

    return b"".join(
        part.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        for part in parts_of(public_key)
    )


def private_key_of(data: bytes, secret: bytes | None, name: str) -> Any:
    """Reads a private key from PEM text.

    Args:
        data: The text.
        secret: The passphrase, if it is encrypted.
        name: What to call the text in an error.

    Returns:
        The key.

    Raises:
        InputError: It holds no private key or one of another kind, or the passphrase is missing,
            wrong or not needed.
    """
    kinds = {match[1] for match in _BLOCK.finditer(data)}
    if b"PUBLIC KEY" in kinds:
        raise InputError(
            f"{name} holds a public key, with which nobody can sign; expected the private key that "
            "belongs to it: give that file, and keep it to yourself."
        )
    keys = [_load_block(match[0], secret, name) for match in _BLOCK.finditer(data)]
    key = _joined(keys, HybridPrivateKey)
    if key is None or kind_of(key) not in ("ed25519", "ec-p256", "hybrid"):
        raise InputError(
            f"{name} holds {_named(keys, data)}; expected {EXPECTED} private key. "
            "Make one with `keras-secure keygen`."
        )
    return key


def public_key_of(data: bytes, name: str) -> Any:
    """Reads a public key from PEM text.

    Args:
        data: The text.
        name: What to call the text in an error.

    Returns:
        The key.

    Raises:
        InputError: It holds no public key or one of another kind.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

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
            f"{name} holds {_named(keys, data)}; expected {EXPECTED} public key in PEM form."
        )
    return key


def _load_block(block: bytes, secret: bytes | None, name: str) -> Any:
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
