"""A trust as a JSON file that people can read and edit, and that may be signed like any file."""

import base64
import binascii
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity.atomic import write_atomically, writing
from keras_secure.integrity.key_files import load_public_key
from keras_secure.integrity.key_pem import public_pem
from keras_secure.integrity.small_files import read_small_file
from keras_secure.integrity.strict_json import parse_json
from keras_secure.integrity.times import as_time, format_time
from keras_secure.integrity.trust import Revocation, Trust, TrustedKey

FORMAT = "keras_secure.trust"
VERSION = 1

_FIELDS = {"endorsements", "format", "keys", "revoked", "threshold", "version"}
_KEY_FIELDS = {"key", "name", "not_after", "not_before"}
_REVOKED_FIELDS = {"fingerprint", "reason", "since"}


def save_trust(trust: Trust, path: str | os.PathLike) -> Path:
    """Writes a trust file.

    Args:
        trust: What to write.
        path: The JSON file; one that is there is replaced. Sign it with `sign` like any file.

    Returns:
        The path of the file.

    Raises:
        InputError: It cannot be written there.

    Example:

    >>> import tempfile
    >>> from keras_secure.integrity import generate_key_pair, load_trust
    >>> trust = Trust((TrustedKey(generate_key_pair()[1], "release"),))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load_trust(save_trust(trust, f"{folder}/trust.json")).keys[0].name
    'release'
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "threshold": trust.threshold,
        "keys": [
            {
                "name": key.name,
                "key": public_pem(key.key).decode(),
                "not_before": _optional(key.not_before),
                "not_after": _optional(key.not_after),
            }
            for key in trust.keys
        ],
        "revoked": [
            {"fingerprint": e.fingerprint, "reason": e.reason, "since": _optional(e.since)}
            for e in trust.revoked
        ],
        "endorsements": [base64.b64encode(data).decode() for data in trust.endorsements],
    }
    with writing(path):
        write_atomically(path, json.dumps(content, indent=2).encode() + b"\n")
    return Path(path)


def load_trust(
    path: str | os.PathLike, signed_by: Any = None, min_serial: int | None = None
) -> Trust:
    """Reads a trust file, and checks who signed it if asked.

    Args:
        path: The file that `save_trust` wrote, or one written by hand in the same form.
        signed_by: Whom to believe about it: a public key, a `Trust`, or what else `verify` takes;
            then `PATH.sig` must be a signature by them. None believes the file as it is.
        min_serial: The lowest serial number of the signature that is accepted, so that nobody can
            bring back an older file that lacks a revocation.

    Returns:
        The `Trust`.

    Raises:
        InputError: It cannot be read, or is no trust file.
        IntegrityError: It is not what `signed_by` signed.

    Example:

    >>> import tempfile
    >>> from keras_secure.integrity import generate_key_pair, sign
    >>> private_key, public_key = generate_key_pair()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_trust(Trust((public_key,)), f"{folder}/trust.json")
    ...     _ = sign(path, private_key, serial=3)
    ...     load_trust(path, signed_by=public_key, min_serial=3).threshold
    1
    """
    data = read_small_file(path)
    if signed_by is not None:
        from keras_secure.integrity.verify import verify_contents

        verify_contents(data, path, signed_by, min_serial=min_serial).raise_if_failed()
    elif min_serial is not None:
        raise InputError("min_serial needs signed_by: only a signature has a serial number.")
    return _parse(data, os.fspath(path))


def read_trust(path: str | os.PathLike) -> Trust:
    """Reads a trust file that is believed as it is."""
    return _parse(read_small_file(path), os.fspath(path))


def is_trust_file(path: str | os.PathLike) -> bool:
    """Whether there is a file at `path` that begins like JSON, as no PEM file does."""
    try:
        with open(path, "rb") as file:
            return file.read(64).lstrip()[:1] == b"{"
    except (OSError, ValueError):
        return False


def _parse(data: bytes, name: str) -> Trust:
    try:
        content = parse_json(data, name)
        _fields(content, _FIELDS, "it")
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise ValueError(f"its format is not {FORMAT!r} in version {VERSION}")
        return Trust(
            keys=tuple(_key(entry) for entry in content["keys"]),
            threshold=content["threshold"],
            revoked=tuple(_revocation(entry) for entry in content.get("revoked", [])),
            endorsements=tuple(
                base64.b64decode(text, validate=True) for text in content.get("endorsements", [])
            ),
        )
    except (KeyError, TypeError, ValueError, binascii.Error, IntegrityError) as error:
        reason = f"the field {error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{name} is no trust file that can be used: {reason.rstrip('.')}. Write it with "
            "`keras_secure.integrity.save_trust`."
        ) from error


def _key(entry: Any) -> TrustedKey:
    _fields(entry, _KEY_FIELDS, "a key")
    return TrustedKey(
        load_public_key(_text(entry["key"]).encode()),
        _text(entry.get("name") or ""),
        _time(entry.get("not_before"), "not_before"),
        _time(entry.get("not_after"), "not_after"),
    )


def _revocation(entry: Any) -> Revocation:
    _fields(entry, _REVOKED_FIELDS, "a revocation")
    if not _text(entry["reason"]):
        raise ValueError("a revocation has no reason")
    # A fingerprint with a typing error would revoke nothing, and nobody would know.
    name = _text(entry["fingerprint"])
    if len(name) != 71 or not name.startswith("sha256:") or name != name.lower():
        raise ValueError(f"{name!r} is no fingerprint")
    int(name[7:], 16)
    return Revocation(name, entry["reason"], _time(entry.get("since"), "since"))


def _fields(value: Any, known: set[str], what: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no JSON object")
    if unknown := set(value) - known:
        raise ValueError(f"{what} has unknown fields: {', '.join(sorted(unknown))}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _time(value: Any, name: str) -> datetime | None:
    return None if value is None else as_time(value, name)


def _optional(time: datetime | None) -> str | None:
    return None if time is None else format_time(time)
