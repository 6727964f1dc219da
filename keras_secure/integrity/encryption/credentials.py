"""What opens an encrypted file: keys of people, a passphrase, or 32 bytes; one kind for each file.

Keys of people are those of age (`age1...`, `AGE-SECRET-KEY-1...`) in either format, so that who
holds one need not know which format a file has.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_secure.errors import InputError
from keras_secure.integrity.atomic import write_atomically, write_new, writing
from keras_secure.integrity.encryption import bech32

RECIPIENT, IDENTITY = "age", "age-secret-key-"
KEY_SIZE = 32

_SSH = ("ssh-ed25519 ", "ssh-rsa ")
_RECIPIENTS = ("age1", *_SSH)
_MAX_KEY_FILE = 2**20


@dataclass(frozen=True)
class Credentials:
    """One kind of secret, or of public keys; exactly one field is set.

    Args:
        people: Recipients or identities: strings, bytes of OpenSSH private keys, or objects of
            pyrage.
        passphrase: Its bytes.
        key: 32 bytes.
    """

    people: tuple[Any, ...] = ()
    passphrase: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)

    @property
    def kind(self) -> str:
        """`"recipients"`, `"passphrase"` or `"key"`: what the file is encrypted for."""
        if self.people:
            return "recipients"
        return "key" if self.passphrase is None else "passphrase"


def read_recipients(recipients: Any, passphrase: Any, key: Any) -> Credentials:
    """Reads what a file is to be encrypted for.

    Raises:
        InputError: Not exactly one kind was given, or one of them cannot be used.
    """
    people = tuple(_each(recipients, _recipients))
    return _one_kind("recipients", people, passphrase, key)


def read_identities(identities: Any, passphrase: Any, key: Any) -> Credentials:
    """Reads what a file is to be decrypted with.

    Raises:
        InputError: Not exactly one kind was given, or one of them cannot be used.
    """
    people = tuple(_each(identities, _identities))
    return _one_kind("identities", people, passphrase, key)


def generate_identity(path: str | os.PathLike, overwrite: bool = False) -> str:
    """Makes a key pair to encrypt for, and writes its secret half to a file of mode 0600.

    Other tools of age read the file as well.

    Args:
        path: The file to create.
        overwrite: Whether a file that exists may be replaced. What was encrypted for the key in it
            is then lost.

    Returns:
        The recipient, `age1...`: who knows it can encrypt for the holder of the file, and do
        nothing else.

    Raises:
        InputError: The file exists and `overwrite` is false.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     recipient = generate_identity(f"{folder}/identity.txt")
    >>> recipient[:4], len(recipient)
    ('age1', 62)
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    private = X25519PrivateKey.generate()
    recipient = bech32.encode(RECIPIENT, private.public_key().public_bytes_raw())
    secret = bech32.encode(IDENTITY, private.private_bytes_raw()).upper()
    text = f"# public key: {recipient}\n{secret}\n".encode()
    try:
        with writing(path):
            (write_atomically if overwrite else write_new)(path, text, 0o600)
    except FileExistsError as error:
        raise InputError(
            f"{path} exists and was kept. Give another path, or overwrite=True to lose the key in "
            "it, and with it whatever was encrypted for that key."
        ) from error
    return recipient


def _one_kind(name: str, people: tuple[Any, ...], passphrase: Any, key: Any) -> Credentials:
    given = [bool(people), passphrase is not None, key is not None]
    if sum(given) != 1:
        what = "none of them was" if not any(given) else "more than one kind was"
        raise InputError(
            f"Give exactly one of {name}, passphrase and key; {what} given. A file has one kind, "
            "so that no weaker one opens it."
        )
    if passphrase is not None:
        return Credentials(passphrase=_passphrase(passphrase))
    if key is not None:
        return Credentials(key=_key(key))
    return Credentials(people)


def _passphrase(passphrase: Any) -> bytes:
    if not isinstance(passphrase, (str, bytes)):
        raise InputError(f"The passphrase is a {type(passphrase).__name__}; give text or bytes.")
    secret = passphrase.encode() if isinstance(passphrase, str) else passphrase
    if not secret:
        raise InputError("The passphrase is empty, which would protect nothing. Give one.")
    return secret


def _key(key: Any) -> bytes:
    if isinstance(key, (str, os.PathLike)):
        key = _read(Path(key), "key file")
    if not isinstance(key, (bytes, bytearray, memoryview)) or len(key) != KEY_SIZE:
        size = f"{len(key)} bytes" if hasattr(key, "__len__") else f"a {type(key).__name__}"
        raise InputError(
            f"The key is {size}; expected {KEY_SIZE} bytes, such as os.urandom({KEY_SIZE}), or the "
            "path of a file that holds them. For words that people remember, give a passphrase."
        )
    return bytes(key)


def _each(given: Any, read: Any) -> Iterable[Any]:
    if given is None:
        return
    single = isinstance(given, (str, bytes, os.PathLike)) or not hasattr(given, "__iter__")
    for item in [given] if single else given:
        yield from read(item)


def _recipients(item: Any) -> list[Any]:
    if _is_key(item, "X25519PublicKey"):
        return [bech32.encode(RECIPIENT, item.public_bytes_raw())]
    if isinstance(item, str) and item.strip().startswith(_RECIPIENTS):
        return [_checked(RECIPIENT, item.strip())]
    if isinstance(item, (str, os.PathLike)):
        lines = _lines(Path(item), "recipients")
        if not all(line.startswith(_RECIPIENTS) for line in lines):
            raise InputError(
                f"{item} is not a list of recipients; expected lines that begin with "
                f"{', '.join(map(repr, _RECIPIENTS))}."
            )
        return [_checked(RECIPIENT, line) for line in lines]
    return [_of_pyrage(item, "recipient")]


def _identities(item: Any) -> list[Any]:
    if _is_key(item, "X25519PrivateKey"):
        return [bech32.encode(IDENTITY, item.private_bytes_raw()).upper()]
    prefix = IDENTITY.upper() + "1"
    if isinstance(item, str) and item.strip().upper().startswith(prefix):
        return [_checked(IDENTITY, item.strip())]
    if isinstance(item, bytes):
        return [item]
    if isinstance(item, (str, os.PathLike)):
        data = _read(Path(item), "identity file")
        if data.startswith(b"-----BEGIN"):
            return [data]
        lines = _lines(Path(item), "identities")
        if not all(line.startswith(prefix) for line in lines):
            raise InputError(
                f"{item} is not an identity file; expected lines that begin with {prefix}, or an "
                "OpenSSH private key."
            )
        return [_checked(IDENTITY, line) for line in lines]
    return [_of_pyrage(item, "identity")]


def _checked(name: str, text: str) -> str:
    # Other kinds of age's recipients are longer, and pyrage's to judge.
    if not text.startswith(_SSH) and text.lower().rpartition("1")[0] == name:
        bech32.decode(name, text)
    return text


def _of_pyrage(item: Any, what: str) -> Any:
    if not type(item).__module__.startswith("pyrage"):
        raise InputError(
            f"A {type(item).__name__} is no {what}; give its text, or the path of its file."
        )
    text = str(item)
    # What has a text is as good as its text, and needs no pyrage to open our own format.
    return text if text.startswith((*_RECIPIENTS, IDENTITY.upper())) else item


def _is_key(item: Any, kind: str) -> bool:
    from cryptography.hazmat.primitives.asymmetric import x25519

    return isinstance(item, getattr(x25519, kind))


def _lines(path: Path, what: str) -> list[str]:
    text = _read(path, f"list of {what}").decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise InputError(f"{path} holds no {what}; expected one on each line.")
    return lines


def _read(path: Path, what: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_KEY_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        # A key that was mistyped is taken for a path, and must not be shown.
        name = path.name if len(path.name) < 40 else path.name[:12] + "..."
        raise InputError(
            f"{name!r} is neither a key nor a {what} that can be read ({reason}). Give the text "
            "of a key, or the path of a file that holds it."
        ) from error
    if len(data) > _MAX_KEY_FILE:
        raise InputError(f"{path} is larger than any {what}. Give the path of a key's file.")
    return data
