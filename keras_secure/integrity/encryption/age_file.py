"""Files of age: recipients through pyrage; passphrases here, since pyrage holds those in memory.

Reference: age-encryption.org/v1, the specification of the format.
"""

import base64
import hmac
import os
import re
from typing import Any, BinaryIO

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity.encryption.chunks import ChunkCipher, read_exactly
from keras_secure.integrity.encryption.credentials import Credentials
from keras_secure.integrity.encryption.derivation import hkdf, scrypt
from keras_secure.integrity.encryption.slots import check_scrypt

MAGIC = b"age-encryption.org/v1\n"
ARMOR = b"-----BEGIN AGE ENCRYPTED FILE-----"

_CHUNK_SIZE = 2**16
_FILE_KEY_SIZE = _SALT_SIZE = _NONCE_SIZE = 16
_SCRYPT_LABEL = b"age-encryption.org/v1/scrypt"
# Salt and wrapped key have fixed lengths, so what follows the stanza is found by position.
_PASSPHRASE_HEADER = re.compile(
    re.escape(MAGIC)
    + rb"-> scrypt ([A-Za-z0-9+/]{22}) ([1-9][0-9]?)\n([A-Za-z0-9+/]{43})\n"
    + rb"--- ([A-Za-z0-9+/]{43})\n"
)
_MAX_PASSPHRASE_HEADER = len(MAGIC) + 200


def is_available() -> bool:
    """Whether pyrage is installed."""
    try:
        import pyrage  # noqa: F401
    except ImportError:
        return False
    return True


def seal(reader: BinaryIO, writer: Any, credentials: Credentials, work_factor: int) -> None:
    """Encrypts what `reader` holds.

    Raises:
        InputError: pyrage is missing where it is needed, or refuses a recipient.
    """
    if credentials.passphrase is not None:
        _seal_with_passphrase(reader, writer, credentials.passphrase, work_factor)
        return
    pyrage = _pyrage()
    recipients = [_recipient(pyrage, item) for item in credentials.people]
    source, target = _Watched(reader), _Watched(writer)
    try:
        pyrage.encrypt_io(source, target, recipients)
    except (pyrage.EncryptError, OSError) as error:
        source.raise_if_failed()
        target.raise_if_failed()
        raise InputError(f"Encryption for the given recipients failed: {error}") from error
    target.raise_if_failed()


def open_sealed(
    reader: BinaryIO, writer: Any, credentials: Credentials, max_work_factor: int, name: str
) -> None:
    """Decrypts a file of age; `reader` stands at its first byte.

    Raises:
        IntegrityError: The file is not what was written.
        InputError: What was given does not open it, or pyrage is missing where it is needed.
    """
    start = reader.read(_MAX_PASSPHRASE_HEADER)
    reader.seek(0)
    has_passphrase = start.startswith(MAGIC + b"-> scrypt ")
    if has_passphrase != (credentials.passphrase is not None) and not start.startswith(ARMOR):
        needed = "a passphrase" if has_passphrase else "recipients"
        give = "the passphrase" if has_passphrase else "identities"
        raise InputError(f"{name} is encrypted for {needed}. Give {give}.")
    if credentials.passphrase is not None:
        if start.startswith(ARMOR):
            raise InputError(
                f"{name} is a text form of age, of which only files for recipients are read. "
                "Turn it into bytes with the tool that wrote it."
            )
        _open_with_passphrase(reader, writer, credentials.passphrase, max_work_factor, name)
        return
    pyrage = _pyrage()
    identities = [_identity(pyrage, item) for item in credentials.people]
    source, target = _Watched(reader), _Watched(writer)
    try:
        pyrage.decrypt_io(source, target, identities)
    # What fails after the header comes as an OSError.
    except (pyrage.DecryptError, OSError) as error:
        source.raise_if_failed()
        target.raise_if_failed()
        if "matching keys" in str(error):
            raise InputError(
                f"{name} was not decrypted: it is encrypted for none of the given identities."
            ) from error
        raise _refusal(name, f"it was altered, truncated or extended ({error})") from error
    target.raise_if_failed()


class _Watched:
    """A stream whose errors are kept, since pyrage drops some that befall its last bytes."""

    def __init__(self, stream):
        self._stream, self._error = stream, None

    def read(self, size=-1):
        return self._attempt(self._stream.read, size)

    def write(self, data):
        return self._attempt(self._stream.write, data)

    def flush(self):
        return self._attempt(self._stream.flush)

    def _attempt(self, function, *arguments):
        try:
            return function(*arguments)
        except BaseException as error:
            self._error = error
            raise

    def raise_if_failed(self):
        if self._error is not None:
            raise self._error


def _recipient(pyrage: Any, item: Any) -> Any:
    if not isinstance(item, str):
        return item
    kind = pyrage.ssh if item.startswith("ssh-") else pyrage.x25519
    try:
        return kind.Recipient.from_str(item)
    except pyrage.RecipientError as error:
        raise InputError(f"Recipient {item[:40]!r} cannot be used: {error}") from error


def _identity(pyrage: Any, item: Any) -> Any:
    try:
        if isinstance(item, bytes):
            return pyrage.ssh.Identity.from_buffer(item)
        return pyrage.x25519.Identity.from_str(item) if isinstance(item, str) else item
    except pyrage.IdentityError as error:
        raise InputError(
            f"An identity cannot be used: {error}. Give an age identity, or an OpenSSH private key "
            "that has no passphrase."
        ) from error


def _seal_with_passphrase(
    reader: BinaryIO, writer: Any, passphrase: bytes, work_factor: int
) -> None:
    salt, nonce = os.urandom(_SALT_SIZE), os.urandom(_NONCE_SIZE)
    file_key = os.urandom(_FILE_KEY_SIZE)
    aead = _chacha20(scrypt(passphrase, _SCRYPT_LABEL + salt, work_factor, 8, 1))
    wrapped = aead.encrypt(bytes(12), file_key, None)
    header = MAGIC + b"-> scrypt %s %d\n%s\n---" % (_encode(salt), work_factor, _encode(wrapped))
    writer.write(header + b" " + _encode(_authenticate(file_key, header)) + b"\n" + nonce)
    _chunk_cipher(file_key, nonce).seal(reader, writer)


def _open_with_passphrase(
    reader: BinaryIO, writer: Any, passphrase: bytes, max_work_factor: int, name: str
) -> None:
    from cryptography.exceptions import InvalidTag

    start = read_exactly(reader, _MAX_PASSPHRASE_HEADER)
    found = _PASSPHRASE_HEADER.match(start)
    if found is None:
        raise _refusal(name, "its header is damaged")
    salt, log_n, wrapped = _decode(found[1], name), int(found[2]), _decode(found[3], name)
    check_scrypt(log_n, 8, 1, max_work_factor)
    aead = _chacha20(scrypt(passphrase, _SCRYPT_LABEL + salt, log_n, 8, 1))
    try:
        file_key = aead.decrypt(bytes(12), wrapped, None)
    except InvalidTag as error:
        raise InputError(
            f"{name} was not decrypted: the passphrase is wrong, or its header was altered."
        ) from error
    header = start[: found.start(4) - 1]
    if not hmac.compare_digest(_authenticate(file_key, header), _decode(found[4], name)):
        raise _refusal(name, "its header was altered")
    reader.seek(found.end())
    nonce = read_exactly(reader, _NONCE_SIZE)
    _chunk_cipher(file_key, nonce).open(reader, writer, name)


def _chunk_cipher(file_key: bytes, nonce: bytes) -> ChunkCipher:
    return ChunkCipher(_chacha20(hkdf(file_key, nonce, b"payload")), b"", 11, _CHUNK_SIZE)


def _authenticate(file_key: bytes, header: bytes) -> bytes:
    return hmac.digest(hkdf(file_key, None, b"header"), header, "sha256")


def _chacha20(key: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(key)


def _encode(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _decode(text: bytes, name: str) -> bytes:
    data = base64.b64decode(text + b"=" * (-len(text) % 4))
    # Bits that no byte holds could be altered unseen.
    if _encode(data) != text:
        raise _refusal(name, "its header is not in canonical form")
    return data


def _pyrage() -> Any:
    try:
        import pyrage
    except ImportError as error:
        raise InputError(
            "Files of age for recipients need the package pyrage. Install keras-secure[age]; or "
            'encrypt with file_format="aes-gcm".'
        ) from error
    return pyrage


def _refusal(name: str, reason: str) -> IntegrityError:
    return IntegrityError(
        f"{name} was not decrypted: {reason}. Get the file again from where it was encrypted."
    )
