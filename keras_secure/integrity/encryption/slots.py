"""Wrapping the key of a file for each of those who may open it."""

import os
import struct
from dataclasses import dataclass
from typing import Any

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity.encryption import bech32
from keras_secure.integrity.encryption.chunks import TAG_SIZE
from keras_secure.integrity.encryption.credentials import (
    IDENTITY,
    KEY_SIZE,
    RECIPIENT,
    Credentials,
)
from keras_secure.integrity.encryption.derivation import derive, scrypt

PASSPHRASE, KEY, X25519 = 1, 2, 3
KIND_NAMES = {PASSPHRASE: "passphrase", KEY: "key", X25519: "recipients"}

_SALT_SIZE = 16
_SCRYPT = struct.Struct(">BBB")
_WRAPPED_SIZE = KEY_SIZE + TAG_SIZE
# Each wrapping key is used once, so the nonce need not change.
_NONCE = bytes(12)
_SIZES = {
    PASSPHRASE: _SALT_SIZE + _SCRYPT.size + _WRAPPED_SIZE,
    KEY: _SALT_SIZE + _WRAPPED_SIZE,
    X25519: KEY_SIZE + _WRAPPED_SIZE,
}


@dataclass(frozen=True)
class Slot:
    """The file's key, wrapped for one who may open it.

    Args:
        kind: `PASSPHRASE`, `KEY` or `X25519`.
        body: What is needed to derive the wrapping key, and the wrapped key.
    """

    kind: int
    body: bytes

    def problem(self) -> str:
        """Says why the slot cannot be one of ours; empty when it may be."""
        if self.kind not in _SIZES:
            return f"it is wrapped in an unknown way ({self.kind}); a later version may know it"
        if len(self.body) != _SIZES[self.kind]:
            return f"a wrapped key has {len(self.body)} bytes instead of {_SIZES[self.kind]}"
        return ""


def wrap(file_key: bytes, credentials: Credentials, work_factor: int) -> list[Slot]:
    """Wraps the key of a file for everyone it is encrypted for.

    Args:
        file_key: 32 bytes.
        credentials: What `read_recipients` returned.
        work_factor: log2 of scrypt's N.
    """
    salt = os.urandom(_SALT_SIZE)
    if credentials.passphrase is not None:
        parameters = _SCRYPT.pack(work_factor, 8, 1)
        wrapping = scrypt(credentials.passphrase, salt, work_factor, 8, 1)
        return [Slot(PASSPHRASE, salt + parameters + _seal(wrapping, file_key))]
    if credentials.key is not None:
        wrapping = derive(credentials.key, salt, b"raw key")
        return [Slot(KEY, salt + _seal(wrapping, file_key))]
    return [_wrap_for(file_key, recipient) for recipient in credentials.people]


def unwrap(slots: tuple[Slot, ...], credentials: Credentials, max_work_factor: int) -> bytes | None:
    """Returns the key of a file, or None if nothing that was given opens a slot.

    Raises:
        IntegrityError: The parameters of scrypt ask for more than `max_work_factor` allows.
    """
    for slot in slots:
        if slot.kind == PASSPHRASE and credentials.passphrase is not None:
            salt, rest = slot.body[:_SALT_SIZE], slot.body[_SALT_SIZE:]
            log_n, r, p = _SCRYPT.unpack(rest[: _SCRYPT.size])
            check_scrypt(log_n, r, p, max_work_factor)
            wrapping = scrypt(credentials.passphrase, salt, log_n, r, p)
            found = _open(wrapping, rest[_SCRYPT.size :])
        elif slot.kind == KEY and credentials.key is not None:
            wrapping = derive(credentials.key, slot.body[:_SALT_SIZE], b"raw key")
            found = _open(wrapping, slot.body[_SALT_SIZE:])
        elif slot.kind == X25519:
            found = _unwrap_for(slot.body, credentials.people)
        else:
            found = None
        if found is not None:
            return found
    return None


def check_scrypt(log_n: int, r: int, p: int, max_work_factor: int) -> None:
    """Refuses parameters that would take more memory or time than is allowed.

    Raises:
        IntegrityError: They would. A file asks for this before anything in it is authentic.
    """
    if not 1 <= log_n <= max_work_factor or not 1 <= r <= 8 or not 1 <= p <= 4:
        raise IntegrityError(
            f"The file asks for scrypt with N = 2^{log_n}, r = {r}, p = {p}, which takes "
            f"{128 * r * 2 ** max(log_n - 20, 0)} MiB or more; at most N = 2^{max_work_factor}, "
            "r = 8, p = 4 is done for a file that is not known to be authentic. If you trust it, "
            "raise max_work_factor."
        )


def _wrap_for(file_key: bytes, recipient: Any) -> Slot:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    if not isinstance(recipient, str) or not recipient.startswith(RECIPIENT + "1"):
        raise InputError(
            f"Recipient {str(recipient)[:40]!r} needs the format of age. Install keras-secure[age]"
            ", or give an X25519 recipient (age1...)."
        )
    public = bech32.decode(RECIPIENT, recipient)
    ephemeral = X25519PrivateKey.generate()
    share = ephemeral.public_key().public_bytes_raw()
    try:
        secret = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise InputError(
            f"Recipient {recipient} is a point of low order, for which nothing stays secret. "
            "Get it anew from whom it is for."
        ) from error
    return Slot(X25519, share + _seal(derive(secret, share + public, b"X25519"), file_key))


def _unwrap_for(body: bytes, people: tuple[Any, ...]) -> bytes | None:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    share, wrapped = body[:KEY_SIZE], body[KEY_SIZE:]
    for identity in people:
        if not isinstance(identity, str):  # of pyrage, and for age's own format
            continue
        private = X25519PrivateKey.from_private_bytes(bech32.decode(IDENTITY, identity))
        public = private.public_key().public_bytes_raw()
        try:
            secret = private.exchange(X25519PublicKey.from_public_bytes(share))
        except ValueError:  # a share of low order
            continue
        found = _open(derive(secret, share + public, b"X25519"), wrapped)
        if found is not None:
            return found
    return None


def _seal(wrapping: bytes, file_key: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(wrapping).encrypt(_NONCE, file_key, None)


def _open(wrapping: bytes, wrapped: bytes) -> bytes | None:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(wrapping).decrypt(_NONCE, wrapped, None)
    except InvalidTag:
        return None
