"""Our own format of an encrypted file, for where pyrage is not installed: AES-256-GCM in chunks.

All numbers are big-endian.

| bytes | contents |
| --- | --- |
| 16 | `keras_secure.enc` |
| 2 | version, 1 |
| 2 | length of the whole header in bytes |
| 4 | plaintext bytes of every chunk but the last |
| 32 | salt of the file, random |
| 1 | number of slots, 1 to 64 |
| 3 + n each | slot: kind (1), length n (2), body |
| 32 | SHA-256 of all before it: tells damage from a wrong passphrase, and no more |
| 32 | HMAC-SHA256 of all before it, keyed by the file's key |
| rest | chunks, each followed by a tag of 16 bytes |

Slots hold the file's key of 32 bytes, wrapped by AES-256-GCM under a key used once: kind 1, a
passphrase: salt (16), scrypt's log2 N, r, p (1 each), wrapped key (48); kind 2, a key of 32 bytes:
salt (16), wrapped key (48); kind 3, an X25519 recipient: ephemeral share (32), wrapped key (48).
The HMAC commits to the file's key, which AES-GCM alone does not: no slot opens the file to one
reader as something else than to another.

Chunks are sealed by AES-256-GCM (`chunks.py`). Key and the first 7 bytes of each nonce are derived
by HKDF from the file's key and salt; 4 bytes number the chunk and 1 tells the last. The header's
SHA-256, HMAC included, is each chunk's associated data.
"""

import hashlib
import hmac
import os
import struct
from typing import Any, BinaryIO

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity.encryption import slots as key_slots
from keras_secure.integrity.encryption.chunks import ChunkCipher, read_exactly
from keras_secure.integrity.encryption.credentials import Credentials
from keras_secure.integrity.encryption.derivation import derive
from keras_secure.integrity.encryption.slots import KIND_NAMES, Slot

MAGIC = b"keras_secure.enc"
VERSION = 1
CHUNK_SIZE = 2**20

_START = struct.Struct(">16sHHI32sB")
_SLOT = struct.Struct(">BH")
_DIGEST_SIZE = 32
_PREFIX_SIZE = 7
_MAX_SLOTS = 64
_CHUNK_SIZES = (2**10, 2**24)


def seal(
    reader: BinaryIO,
    writer: Any,
    credentials: Credentials,
    work_factor: int,
    chunk_size: int = CHUNK_SIZE,
) -> None:
    """Encrypts what `reader` holds.

    Raises:
        InputError: A recipient is of a kind that only age's format knows, or there are too many.
    """
    if len(credentials.people) > _MAX_SLOTS:
        raise InputError(
            f"{len(credentials.people)} recipients were given; a file has room for {_MAX_SLOTS}."
        )
    file_key, salt = os.urandom(32), os.urandom(32)
    slots = key_slots.wrap(file_key, credentials, work_factor)
    body = b"".join(_SLOT.pack(slot.kind, len(slot.body)) + slot.body for slot in slots)
    length = _START.size + len(body) + 2 * _DIGEST_SIZE
    header = _START.pack(MAGIC, VERSION, length, chunk_size, salt, len(slots)) + body
    header += hashlib.sha256(header).digest()
    header += _authenticate(file_key, header)
    writer.write(header)
    _chunk_cipher(file_key, salt, header, chunk_size).seal(reader, writer)


def open_sealed(
    reader: BinaryIO, writer: Any, credentials: Credentials, max_work_factor: int, name: str
) -> None:
    """Decrypts a file that `seal` wrote; `reader` stands at its first byte.

    Raises:
        IntegrityError: The file is not what was written.
        InputError: What was given does not open it.
    """
    header, chunk_size, salt, slots = _read_header(reader, name)
    kinds = sorted({KIND_NAMES[slot.kind] for slot in slots})
    if credentials.kind not in kinds:
        words = {"recipients": "identities", "passphrase": "the passphrase", "key": "the key"}
        raise InputError(
            f"{name} is encrypted for {' and '.join(kinds)}. Give "
            f"{' or '.join(words[kind] for kind in kinds)}."
        )
    file_key = key_slots.unwrap(slots, credentials, max_work_factor)
    if file_key is None:
        wrong = {
            "passphrase": "the passphrase is wrong",
            "key": "the key is another",
            "recipients": "it is encrypted for none of the given identities",
        }
        raise InputError(f"{name} was not decrypted: {wrong[credentials.kind]}.")
    if not hmac.compare_digest(_authenticate(file_key, header[:-32]), header[-32:]):
        raise _refusal(name, "its header was altered")
    _chunk_cipher(file_key, salt, header, chunk_size).open(reader, writer, name)


def _read_header(reader: BinaryIO, name: str) -> tuple[bytes, int, bytes, tuple[Slot, ...]]:
    start = read_exactly(reader, _START.size)
    if len(start) < _START.size:
        raise _refusal(name, "it ends within its header")
    _, version, length, chunk_size, salt, count = _START.unpack(start)
    if version != VERSION:
        raise IntegrityError(
            f"{name} is of version {version} of its format, and only {VERSION} is known. It is "
            "damaged, or was written by a later keras_secure."
        )
    header = start + read_exactly(reader, max(length - _START.size, 0))
    checksum = header[-2 * _DIGEST_SIZE : -_DIGEST_SIZE]
    if len(header) != length or hashlib.sha256(header[: -2 * _DIGEST_SIZE]).digest() != checksum:
        raise _refusal(name, "its header is damaged")
    if not _CHUNK_SIZES[0] <= chunk_size <= _CHUNK_SIZES[1] or not 1 <= count <= _MAX_SLOTS:
        raise _refusal(name, f"its header tells of {count} slots and chunks of {chunk_size} bytes")
    return header, chunk_size, salt, _read_slots(header[_START.size : -64], count, name)


def _read_slots(data: bytes, count: int, name: str) -> tuple[Slot, ...]:
    slots = []
    for _ in range(count):
        if len(data) < _SLOT.size:
            raise _refusal(name, "its header has fewer slots than it says")
        kind, length = _SLOT.unpack(data[: _SLOT.size])
        slot = Slot(kind, data[_SLOT.size : _SLOT.size + length])
        if problem := slot.problem():
            raise _refusal(name, problem)
        slots.append(slot)
        data = data[_SLOT.size + length :]
    # Each slot of a passphrase costs a run of scrypt; and one that others may open as well would
    # not show that its writer knew it.
    if data or (count > 1 and {slot.kind for slot in slots} != {key_slots.X25519}):
        raise _refusal(name, "its header has slots that do not belong together")
    return tuple(slots)


def _chunk_cipher(file_key: bytes, salt: bytes, header: bytes, chunk_size: int) -> ChunkCipher:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    secret = derive(file_key, salt, b"chunks", 32 + _PREFIX_SIZE)
    digest = hashlib.sha256(header).digest()
    return ChunkCipher(AESGCM(secret[:32]), secret[32:], 4, chunk_size, digest)


def _authenticate(file_key: bytes, header: bytes) -> bytes:
    return hmac.digest(derive(file_key, None, b"header"), header, "sha256")


def _refusal(name: str, reason: str) -> IntegrityError:
    return IntegrityError(
        f"{name} was not decrypted: {reason}. Get the file again from where it was encrypted."
    )
