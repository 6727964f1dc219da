"""A secret key under which the record of what was spent cannot be rewritten by others."""

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from keras_secure.errors import InputError
from keras_secure.integrity.atomic import write_new

_BYTES = 32


class LedgerKey:
    """A key for HMAC-SHA256 that seals ledgers and journals.

    Whoever holds it can change a sealed record; nobody else can without being found out. Keep it
    where the checkpoints are not.

    Args:
        secret: At least 32 secret bytes.

    Raises:
        InputError: if the secret is too short.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     key = LedgerKey.generate(f"{folder}/ledger.key")
    ...     LedgerKey.load(f"{folder}/ledger.key").mac(b"text") == key.mac(b"text")
    True

    Reference: RFC 2104, HMAC: Keyed-Hashing for Message Authentication.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret):
        if not isinstance(secret, bytes) or len(secret) < _BYTES:
            raise InputError(
                f"A ledger key needs at least {_BYTES} secret bytes. Make one with "
                "LedgerKey.generate(path)."
            )
        self._secret = secret

    @classmethod
    def generate(cls, path):
        """Makes a key from the operating system's entropy and keeps it in a file of mode 0600.

        Raises:
            InputError: if there is such a file already, or it cannot be written.
        """
        secret = secrets.token_bytes(_BYTES)
        try:
            write_new(path, secret.hex().encode() + b"\n", 0o600)
        except FileExistsError as error:
            raise InputError(f"{path} exists and was kept. Give the path of a new file.") from error
        except OSError as error:
            raise InputError(f"The key file {path} cannot be written: {error.strerror}.") from error
        return cls(secret)

    @classmethod
    def load(cls, source):
        """Returns the key in a file that `generate` wrote; a `LedgerKey` is returned as it is.

        Raises:
            InputError: if the file cannot be read, holds no key, or is open to other users.
        """
        if isinstance(source, LedgerKey):
            return source
        if not isinstance(source, (str, os.PathLike)):
            raise InputError(
                f"A {type(source).__name__} cannot be used as ledger key; give a LedgerKey or the "
                "path of its file."
            )
        path = Path(source)
        try:
            if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise InputError(
                    f"The key file {path} can be read or written by other users, so it proves "
                    "nothing. Restrict it with chmod 600, and make a new key if others had access."
                )
            secret = bytes.fromhex(path.read_text("ascii").strip())
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"No ledger key can be read from {path}: {error}. Give the file that "
                "LedgerKey.generate wrote."
            ) from error
        return cls(secret)

    def mac(self, data):
        """Returns the HMAC-SHA256 of `data` in hexadecimal."""
        return hmac.new(self._secret, data, hashlib.sha256).hexdigest()

    def fits(self, data, mac):
        """Whether `mac` is the HMAC-SHA256 of `data`, compared in constant time."""
        return isinstance(mac, str) and hmac.compare_digest(self.mac(data).encode(), mac.encode())

    def __repr__(self):
        return "LedgerKey(...)"

    def __reduce__(self):
        raise TypeError("A LedgerKey is secret and is not pickled; pass the path of its file.")
