"""The lines of an audit log: what each holds, and how it depends on all before it."""

import base64
import hashlib
from typing import Any

from keras_secure.integrity.dsse import signed_bytes
from keras_secure.integrity.keys import is_signed_by, sign_bytes
from keras_secure.integrity.strict_json import canonical_bytes

FIRST = "0" * 64
PAYLOAD_TYPE = "application/vnd.keras-secure.audit-checkpoint+json"
HEAD_SUFFIX = ".head"

_SIGNED_FIELDS = ("log", "prev", "seq", "time")


def seal_record(record: dict[str, Any]) -> tuple[bytes, str]:
    """Makes the line of a record, which has its number `seq` and the hash `prev` of the one before.

    Args:
        record: The record, without `hash`.

    Returns:
        The line with its line feed, and the record's hash.

    Example:

    >>> line, digest = seal_record({"seq": 0, "prev": FIRST})
    >>> digest in line.decode()
    True
    """
    digest = hash_of(record)
    return canonical_bytes({**record, "hash": digest}) + b"\n", digest


def hash_of(record: dict[str, Any]) -> str:
    """The hash of a record, of all but its field `hash`."""
    content = {name: value for name, value in record.items() if name != "hash"}
    return hashlib.sha256(canonical_bytes(content)).hexdigest()


def sign_record(record: dict[str, Any], private_key: Any) -> dict[str, Any]:
    """Adds to a checkpoint the signature over its log, number, time, and all before it."""
    signature = sign_bytes(private_key, _signed(record))
    return {**record, "signature": base64.b64encode(signature).decode()}


def is_signed(record: dict[str, Any], public_key: Any) -> bool:
    """Whether a checkpoint's signature is by the holder of a key; False for any other value."""
    try:
        signature = base64.b64decode(record["signature"], validate=True)
        return is_signed_by(public_key, signature, _signed(record))
    except (KeyError, TypeError, ValueError):
        return False


def _signed(record: dict[str, Any]) -> bytes:
    payload = canonical_bytes({name: record[name] for name in _SIGNED_FIELDS})
    return signed_bytes(payload, PAYLOAD_TYPE)
