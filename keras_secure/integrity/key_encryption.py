"""A private key under a passphrase: PKCS #8 with as many rounds as guessing should cost today."""

import base64
import hashlib
import os
import textwrap

# OWASP's recommendation for PBKDF2 with HMAC-SHA256; `cryptography` itself takes 2048.
ROUNDS = 600_000

_PBES2 = "2a864886f70d01050d"
_PBKDF2 = "2a864886f70d01050c"
_HMAC_SHA256 = "2a864886f70d0209"
_AES256_CBC = "60864801650304012a"


def encrypt_key(der: bytes, passphrase: bytes) -> bytes:
    """Encrypts a private key so that OpenSSL and `cryptography` can read it with the passphrase.

    Args:
        der: The key as unencrypted PKCS #8 in DER form.
        passphrase: What it will take to read it.

    Returns:
        An `ENCRYPTED PRIVATE KEY` in PEM form: AES-256-CBC under PBKDF2-HMAC-SHA256.

    Example:

    >>> encrypt_key(b"key", b"passphrase").splitlines()[0]
    b'-----BEGIN ENCRYPTED PRIVATE KEY-----'

    Reference:
        RFC 5958 (EncryptedPrivateKeyInfo) and RFC 8018, appendix A.4 (PBES2).
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    salt, start = os.urandom(16), os.urandom(16)
    key = hashlib.pbkdf2_hmac("sha256", passphrase, salt, ROUNDS, 32)
    cipher = Cipher(algorithms.AES(key), modes.CBC(start)).encryptor()
    fill = 16 - len(der) % 16
    secret = cipher.update(der + bytes([fill]) * fill) + cipher.finalize()
    prf = _sequence(_object(_HMAC_SHA256), b"\x05\x00")
    rounds = ROUNDS.to_bytes(ROUNDS.bit_length() // 8 + 1, "big")
    derivation = _sequence(_object(_PBKDF2), _sequence(_field(4, salt), _field(2, rounds), prf))
    scheme = _sequence(_object(_AES256_CBC), _field(4, start))
    algorithm = _sequence(_object(_PBES2), _sequence(derivation, scheme))
    text = base64.b64encode(_sequence(algorithm, _field(4, secret))).decode()
    lines = ["-----BEGIN ENCRYPTED PRIVATE KEY-----", *textwrap.wrap(text, 64)]
    return "\n".join([*lines, "-----END ENCRYPTED PRIVATE KEY-----", ""]).encode()


def _sequence(*parts: bytes) -> bytes:
    return _field(0x30, b"".join(parts))


def _object(identifier: str) -> bytes:
    return _field(6, bytes.fromhex(identifier))


def _field(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content
