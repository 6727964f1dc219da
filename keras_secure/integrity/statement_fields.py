"""Fields of a signed statement, each of which is what it must be or an error."""

import re
from typing import Any

from keras_secure.errors import IntegrityError

WHAT = "The signed statement"
HEX = re.compile(r"[0-9a-f]{64}|[0-9a-f]{128}")


class EditedStatementError(IntegrityError):
    """A statement that no signing program writes: it was changed after it was written."""


class UnknownStatementError(IntegrityError):
    """A statement of a kind or version that we do not know."""


def shards_by_path(resources: Any) -> dict[str, list[tuple[int, int, str]]]:
    """First byte, end and digest of each shard, by the path of its file."""
    found: dict[str, list[tuple[int, int, str]]] = {}
    for resource in resources:
        path, start, end = resource["name"].split(":")
        if not HEX.fullmatch(resource["digest"]):
            raise edited(f"the digest of {resource['name']!r} is none")
        found.setdefault(path, []).append((_offset(start), _offset(end), resource["digest"]))
    return found


def _offset(text: str) -> int:
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", text):
        raise edited(f"{text!r} is no offset")
    return int(text)


def number_field(value: Any, low: int = 0, high: int = 2**63 - 1) -> int:
    """A field that must be a whole number within bounds."""
    if type(value) is not int or not low <= value <= high:
        raise edited(f"{value!r} is not a number from {low} to {high}")
    return value


def mode_field(value: Any) -> int | None:
    """A field of permission bits, or None where the system that signed has none."""
    return None if value is None else number_field(value, 0, 0o7777)


def typed_field(value: Any, kind: type) -> Any:
    """A field that must be of one type."""
    if type(value) is not kind:
        raise edited(f"{value!r} is no {kind.__name__}")
    return value


def edited(reason: str) -> EditedStatementError:
    """The error for a statement that is not what a signing program writes."""
    return EditedStatementError(f"{WHAT} was changed after it was written: {reason}.")
