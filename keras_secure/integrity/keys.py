"""Keys that sign: three kinds, made, told apart by a fingerprint, and used alike."""

import hashlib
from typing import Any, Literal, TypeAlias

from keras_secure.errors import InputError
from keras_secure.integrity.hybrid import HybridPrivateKey, HybridPublicKey

Kind: TypeAlias = Literal["ed25519", "ec-p256", "hybrid"]
KINDS: tuple[Kind, ...] = ("ed25519", "ec-p256", "hybrid")


def generate_key_pair(kind: Kind = "ed25519") -> tuple[Any, Any]:
    """Makes a new key pair from the operating system's entropy.

    Args:
        kind: `"ed25519"`; `"ec-p256"`, whose signatures OpenSSF model-signing can check; or
            `"hybrid"`, Ed25519 with ML-DSA-65, which a quantum computer cannot forge either.

    Returns:
        `(private_key, public_key)`: objects of the package `cryptography`, or for `"hybrid"` a pair
        of them with the same methods.

    Raises:
        InputError: The kind is unknown, or the installed `cryptography` does not offer it.

    Example:

    >>> private_key, public_key = generate_key_pair()
    >>> fingerprint(public_key) == fingerprint(private_key.public_key())
    True

    Reference:
        RFC 8032 (Ed25519), FIPS 186-5 (ECDSA on P-256), FIPS 204 (ML-DSA).
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    if kind not in KINDS:
        raise InputError(f"There is no kind of key {kind!r}; expected one of {', '.join(KINDS)}.")
    private_key: Any
    if kind == "ed25519":
        private_key = ed25519.Ed25519PrivateKey.generate()
    elif kind == "ec-p256":
        private_key = ec.generate_private_key(ec.SECP256R1())
    else:
        private_key = HybridPrivateKey.generate()
    return private_key, private_key.public_key()


def fingerprint(public_key: Any) -> str:
    """The name people compare a public key by.

    Args:
        public_key: A key object, a PEM file or its bytes.

    Returns:
        `"sha256:"` and the hexadecimal SHA-256 of the key's DER form, which
        `openssl pkey -pubin -in public_key.pem -outform DER | sha256sum` prints too. For a hybrid
        key, of the DER forms of Ed25519 and ML-DSA-65, one after the other.

    Example:

    >>> len(fingerprint(generate_key_pair()[1]))
    71
    """
    from cryptography.hazmat.primitives import serialization

    from keras_secure.integrity.key_files import load_public_key

    digest = hashlib.sha256()
    for part in parts_of(load_public_key(public_key)):
        digest.update(
            part.public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
    return "sha256:" + digest.hexdigest()


def kind_of(key: Any) -> str:
    """The kind of a key, private or public; empty for what is no key that we use.

    Besides `KINDS` it knows `"ec-p384"` and `"ec-p521"`, with which others may have signed.

    Example:

    >>> kind_of(generate_key_pair("ec-p256")[1])
    'ec-p256'
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    if isinstance(key, HybridPrivateKey | HybridPublicKey):
        return "hybrid"
    if isinstance(key, ed25519.Ed25519PrivateKey | ed25519.Ed25519PublicKey):
        return "ed25519"
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        names = {"secp256r1": "ec-p256", "secp384r1": "ec-p384", "secp521r1": "ec-p521"}
        return names.get(key.curve.name, "")
    return ""


def is_private(key: Any) -> bool:
    """Whether a key object is one to sign with."""
    return hasattr(key, "sign")


def parts_of(key: Any) -> tuple[Any, ...]:
    """The keys of `cryptography` that a key is made of: two for a hybrid one."""
    if isinstance(key, HybridPrivateKey | HybridPublicKey):
        return key.ed25519, key.ml_dsa
    return (key,)


def sign_bytes(private_key: Any, data: bytes) -> bytes:
    """Signs bytes with a key of any kind.

    Args:
        private_key: A private key object.
        data: What to sign.

    Returns:
        The signature, as the kind's standard encodes it.

    Example:

    >>> private_key, public_key = generate_key_pair("ec-p256")
    >>> is_signed_by(public_key, sign_bytes(private_key, b"data"), b"data")
    True
    """
    if kind_of(private_key).startswith("ec-"):
        return private_key.sign(data, _ecdsa(private_key))
    return private_key.sign(data)


def is_signed_by(public_key: Any, signature: bytes, data: bytes) -> bool:
    """Whether a signature is one of `data` by the holder of a key.

    Args:
        public_key: A public key object.
        signature: What `sign_bytes` returned.
        data: What was signed.

    Returns:
        True or False, for any bytes.

    Example:

    >>> is_signed_by(generate_key_pair()[1], bytes(64), b"data")
    False
    """
    from cryptography.exceptions import InvalidSignature

    try:
        if kind_of(public_key).startswith("ec-"):
            public_key.verify(signature, data, _ecdsa(public_key))
        else:
            public_key.verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def _ecdsa(key: Any) -> Any:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    by_size: dict[int, Any] = {256: hashes.SHA256, 384: hashes.SHA384, 521: hashes.SHA512}
    return ec.ECDSA(by_size[key.curve.key_size]())
