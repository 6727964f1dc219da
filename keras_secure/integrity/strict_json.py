"""JSON from strangers: no key twice, no NaN, no depth that exhausts the stack."""

import json
import math
from typing import Any

from keras_secure.errors import IntegrityError

_MAX_DEPTH = 32


def canonical_bytes(value: Any) -> bytes:
    """The one byte string that stands for a value: sorted keys, no spaces, ASCII only.

    Example:

    >>> canonical_bytes({"b": 1, "a": "ü"})
    b'{"a":"\\\\u00fc","b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def parse_json(data: bytes, what: str) -> Any:
    """Parses JSON that must be unambiguous.

    Args:
        data: UTF-8 text.
        what: What it is, for messages.

    Returns:
        The value.

    Raises:
        IntegrityError: It is no JSON, a key stands twice in one object, a number is not finite, or
            it is nested more than 32 deep.

    Example:

    >>> parse_json(b'{"a":1,"a":2}', "It")
    Traceback (most recent call last):
        ...
    keras_secure.errors.IntegrityError: It is not valid JSON: a key stands twice in one object.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=no_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        _check_depth(value)
    except RecursionError as error:
        raise IntegrityError(f"{what} is not valid JSON: it is nested too deeply.") from error
    except ValueError as error:
        raise IntegrityError(f"{what} is not valid JSON: {error}.") from error
    return value


def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The `object_pairs_hook` for `json` that refuses a key twice in one object.

    Raises:
        ValueError: One stands twice, which two programs might read as two things.
    """
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return result


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):  # 1e999, which no JSON could be written of
        raise ValueError(f"{text[:20]} is beyond the range of numbers")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"it holds {name}")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH):
        inner = (
            item.values() if isinstance(item, dict) else item
            for item in level
            if isinstance(item, dict | list)
        )
        level = [member for group in inner for member in group if isinstance(member, dict | list)]
        if not level:
            return
    raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")
