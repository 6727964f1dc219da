"""A file of API keys: hashed, scoped, expiring, revocable, and sealed against edits.

A key is `ksk_ID_SECRET`. Its secret is 32 random bytes, which nobody finds by guessing, so a slow
hash would only make every request slow; what is kept of it is an HMAC-SHA256 under a second secret
that lies in a file of its own. Who reads the file of keys alone can check no guess, and who writes
to it alone can neither add a key nor widen a scope: the whole file carries a MAC. The identifier in
the key makes the look-up one step, whatever the number of keys.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from keras_secure.arguments import is_integer, is_number
from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity.atomic import sync_folder, write_atomically, write_new
from keras_secure.integrity.strict_json import canonical_bytes, parse_json
from keras_secure.integrity.times import as_time, format_time, now
from keras_secure.serving.changes import FileWatch
from keras_secure.serving.identity import Identity, check_scopes
from keras_secure.serving.refusal import Refusal

PREFIX = "ksk_"
SECRET_SUFFIX = ".secret"

_FORMAT, _VERSION = "keras_secure.api_keys", 1
_MAX_BYTES = 2**26


@dataclass(frozen=True)
class ApiKey:
    """What is kept of a key.

    Args:
        id: The part of the key that is no secret.
        digest: HMAC-SHA256 of the key, hexadecimal.
        scopes: As for `Identity`.
        name: Whose it is.
        created: When it was made, as ISO 8601.
        expires: When it ends; None for never.
        revoked: When it was revoked; None where it was not.
        reason: Why.
        rate: As for `Identity`.
        budget: As for `Identity`.
    """

    id: str
    digest: str
    scopes: tuple[str, ...]
    name: str = ""
    created: str = ""
    expires: str | None = None
    revoked: str | None = None
    reason: str = ""
    rate: float | None = None
    budget: int | None = None

    @property
    def state(self) -> str:
        """`"valid"`, `"expired"` or `"revoked"`."""
        if self.revoked is not None:
            return "revoked"
        expired = self.expires is not None and as_time(self.expires, "expires") <= now()
        return "expired" if expired else "valid"


class ApiKeys:
    """The API keys of a file, read again when it changes.

    Args:
        path: The file.
        secret: The file with the secret that keys are hashed under; `PATH.secret` by default.
        create: Whether to make both where there is no such file.

    Raises:
        InputError: A file is missing or cannot be read.
        IntegrityError: The file of keys was edited by something that does not know the secret.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     keys = ApiKeys(f"{folder}/keys.json", create=True)
    ...     text = keys.add("alice", ["digits:predict"], expires="2099-01-01")
    ...     keys.authenticate(text).name
    'alice'
    """

    def __init__(
        self,
        path: str | os.PathLike,
        secret: str | os.PathLike | None = None,
        create: bool = False,
    ):
        self.path = Path(path)
        self.secret_path = (
            self.path.with_name(self.path.name + SECRET_SUFFIX) if secret is None else Path(secret)
        )
        if create and not self.path.exists():
            self._create()
        self._secret = self._read_secret()
        self._watch = FileWatch(self.path)
        self._keys = self._read()

    @property
    def keys(self) -> tuple[ApiKey, ...]:
        """What is kept of every key, in the order in which they were made."""
        return tuple(self._keys.values())

    def add(
        self,
        name: str,
        scopes: Iterable[str],
        *,
        expires: datetime | str | None = None,
        rate: float | None = None,
        budget: int | None = None,
    ) -> str:
        """Makes a key.

        Args:
            name: Whose it is.
            scopes: As for `Identity`.
            expires: When it ends; None for never.
            rate: As for `Identity`.
            budget: As for `Identity`.

        Returns:
            The key. It is not kept and cannot be shown again.

        Raises:
            InputError: An argument cannot be used, or the file cannot be written.
        """
        if not str(name).isprintable():
            raise InputError(f"The name {name!r} has characters that cannot be printed in a list.")
        if rate is not None and not (is_number(rate) and rate > 0):
            raise InputError(f"rate is {rate!r}; expected requests a second, above 0, or None.")
        if budget is not None and not (is_integer(budget) and budget >= 0):
            raise InputError(f"budget is {budget!r}; expected a number of examples, or None.")
        identifier, text = secrets.token_hex(8), secrets.token_urlsafe(32)
        text = f"{PREFIX}{identifier}_{text}"
        key = ApiKey(
            identifier,
            self._digest(text),
            check_scopes(scopes),
            str(name),
            format_time(now()),
            None if expires is None else format_time(as_time(expires, "expires")),
            rate=rate,
            budget=budget,
        )
        with self._writing() as keys:
            keys[identifier] = key
        return text

    def revoke(self, identifier: str, reason: str = "") -> ApiKey:
        """Revokes a key, at once in every server that reads the file.

        Args:
            identifier: The key's `id`, or the whole key.
            reason: Why, for whoever reads the file.

        Returns:
            What is kept of it.

        Raises:
            InputError: There is no such key.
        """
        wanted = identifier.removeprefix(PREFIX).partition("_")[0]
        with self._writing() as keys:
            if wanted not in keys:
                raise InputError(
                    f"There is no key {wanted!r} in {self.path}; give the id of one of its "
                    f"{len(keys)} keys."
                )
            if keys[wanted].revoked is None:
                keys[wanted] = replace(keys[wanted], revoked=format_time(now()), reason=reason)
            return keys[wanted]

    def authenticate(self, text: str) -> Identity:
        """Finds out whose key this is.

        Args:
            text: The key.

        Returns:
            The `Identity`.

        Raises:
            Refusal: With status 401: it is none, or expired or revoked.
        """
        identifier = text.removeprefix(PREFIX).partition("_")[0]
        key = self._keys.get(identifier)
        # Hashed in any case, so that the time does not tell which identifiers there are.
        holds = hmac.compare_digest(self._digest(text), "" if key is None else key.digest)
        if key is None or not holds:
            raise Refusal(401, "The API key is not known.", "unknown_key")
        if key.state != "valid":
            raise Refusal(401, f"The API key is {key.state}.", f"{key.state}_key")
        return Identity(key.id, "api_key", key.scopes, key.name, key.rate, key.budget)

    def refresh(self) -> bool:
        """Reads the file again if it changed; returns whether it did.

        Raises:
            IntegrityError: It was edited; the keys that were read before stay in force.
            InputError: It cannot be read; likewise.
        """
        if not self._watch.changed():
            return False
        self._keys = self._read()
        return True

    def _digest(self, text: str) -> str:
        return hmac.new(self._secret, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()

    def _create(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.secret_path.exists():
                write_new(self.secret_path, secrets.token_hex(32).encode() + b"\n", 0o600)
            self._secret = self._read_secret()
            self._write({})
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror}.") from error

    def _read_secret(self) -> bytes:
        try:
            secret = bytes.fromhex(self.secret_path.read_text("ascii").strip())
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not hexadecimal"
            raise InputError(
                f"The secret of the API keys, {self.secret_path}, cannot be read: {reason}. Give "
                "the file that was made with the first key."
            ) from error
        if len(secret) < 32:
            raise InputError(f"{self.secret_path} holds {len(secret)} bytes; expected 32 or more.")
        return secret

    def _read(self) -> dict[str, ApiKey]:
        name = f"The file of API keys {self.path}"
        try:
            with open(self.path, "rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise InputError(
                f"{name} cannot be read: {error.strerror}. Make one with `keras-secure api-key "
                "add`."
            ) from error
        if len(data) > _MAX_BYTES:
            raise InputError(
                f"{name} is larger than {_MAX_BYTES} bytes. "
                "Give the file that `keras-secure api-key` wrote."
            )
        content = parse_json(data, name)
        try:
            mac = content.pop("mac")
            if content["format"] != _FORMAT or content["version"] != _VERSION:
                raise IntegrityError(f"{name} is no file of API keys of version {_VERSION}.")
            if not hmac.compare_digest(mac, self._mac(content)):
                raise IntegrityError(
                    f"{name} was edited, or belongs to another secret than {self.secret_path}. "
                    "Restore it; keys are changed by `keras-secure api-key` alone."
                )
            keys = [ApiKey(**{**key, "scopes": tuple(key["scopes"])}) for key in content["keys"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(f"{name} is no file of API keys: {error}.") from error
        return {key.id: key for key in keys}

    def _write(self, keys: dict[str, ApiKey]) -> None:
        content: dict[str, Any] = {"format": _FORMAT, "version": _VERSION}
        content["keys"] = [asdict(key) for key in keys.values()]
        content = parse_json(canonical_bytes(content), "It")
        content["mac"] = self._mac(content)
        write_atomically(self.path, canonical_bytes(content) + b"\n", 0o600)
        sync_folder(self.path.parent)

    def _mac(self, content: dict[str, Any]) -> str:
        return hmac.new(self._secret, canonical_bytes(content), hashlib.sha256).hexdigest()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[dict[str, ApiKey]]:
        """Gives the keys to change; two processes that change them do so one after the other."""
        try:
            with open(self.secret_path, "rb") as lock:
                _lock(lock)
                keys = self._read()
                yield keys
                self._write(keys)
                self._keys = keys
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror}.") from error


def _lock(file: Any) -> None:
    with contextlib.suppress(ImportError):  # not on Windows
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
