"""A key of two: Ed25519 for today, ML-DSA-65 against quantum computers. A signature needs both."""

from typing import Any

from keras_secure.errors import InputError

_PREFIX = b"CompositeAlgorithmSignatures2025"
_LABEL = b"COMPSIG-MLDSA65-Ed25519-SHA512"
_ML_DSA_BYTES = 3309


class HybridPublicKey:
    """The public half of a hybrid key.

    Args:
        ed25519: An Ed25519 public key of the package `cryptography`.
        ml_dsa: An ML-DSA-65 public key of the same package.
    """

    def __init__(self, ed25519: Any, ml_dsa: Any):
        self.ed25519, self.ml_dsa = ed25519, ml_dsa

    def verify(self, signature: bytes, data: bytes) -> None:
        """Does nothing if both halves signed `data`.

        Raises:
            cryptography.exceptions.InvalidSignature: One of them did not.
        """
        message = _message(data)
        self.ml_dsa.verify(signature[:_ML_DSA_BYTES], message, _LABEL)
        self.ed25519.verify(signature[_ML_DSA_BYTES:], message)

    def __eq__(self, other):
        return (
            isinstance(other, HybridPublicKey)
            and self.ed25519 == other.ed25519
            and self.ml_dsa == other.ml_dsa
        )

    def __hash__(self):
        return hash((self.ed25519.public_bytes_raw(), self.ml_dsa.public_bytes_raw()))


class HybridPrivateKey:
    """An Ed25519 and an ML-DSA-65 private key that sign together.

    Neither half of a signature is a signature by itself: what is signed names the combination, so
    that nobody can drop the half that is harder to forge.

    Args:
        ed25519: An Ed25519 private key of the package `cryptography`.
        ml_dsa: An ML-DSA-65 private key of the same package.

    Reference:
        FIPS 204 (ML-DSA); the message and the order of the halves follow the composite signature
        id-MLDSA65-Ed25519-SHA512 of the IETF's draft-ietf-lamps-pq-composite-sigs.
    """

    def __init__(self, ed25519: Any, ml_dsa: Any):
        self.ed25519, self.ml_dsa = ed25519, ml_dsa

    @classmethod
    def generate(cls) -> "HybridPrivateKey":
        """Makes a new key from the operating system's entropy.

        Raises:
            InputError: The installed `cryptography` has no ML-DSA.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        try:
            from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

            return cls(Ed25519PrivateKey.generate(), MLDSA65PrivateKey.generate())
        except (ImportError, UnsupportedAlgorithm) as error:
            raise InputError(
                "The installed cryptography offers no ML-DSA-65, which a hybrid key needs. Upgrade "
                "it with `pip install -U cryptography`, or make a key of kind 'ed25519'."
            ) from error

    def sign(self, data: bytes) -> bytes:
        """Signs with both halves; returns 3309 bytes of ML-DSA-65 and 64 of Ed25519."""
        message = _message(data)
        return self.ml_dsa.sign(message, _LABEL) + self.ed25519.sign(message)

    def public_key(self) -> HybridPublicKey:
        """Returns the public half."""
        return HybridPublicKey(self.ed25519.public_key(), self.ml_dsa.public_key())


def is_ml_dsa(key: Any) -> bool:
    """Whether `key` is one of ML-DSA-65, private or public."""
    try:
        from cryptography.hazmat.primitives.asymmetric import mldsa
    except ImportError:
        return False
    return isinstance(key, mldsa.MLDSA65PrivateKey | mldsa.MLDSA65PublicKey)


def _message(data: bytes) -> bytes:
    import hashlib

    # An empty context, as a length of zero, stands between label and digest.
    return _PREFIX + _LABEL + b"\0" + hashlib.sha512(data).digest()
