"""Sensitive fields of a request, hidden before anything of it is kept."""

import re
from collections.abc import Iterable
from typing import Any

from keras_secure.errors import InputError

MASK = "***"
_COLUMN = re.compile(r"(?P<name>[^\[\]]+)\[(?P<index>\d+)\]")


class Masking:
    """Hides declared fields in the JSON of requests.

    Args:
        fields: Names of fields, which are hidden wherever they are a key; or `NAME[INDEX]`, which
            hides that entry of every innermost list of an input.

    Raises:
        InputError: A field is neither.

    Example:

    >>> masking = Masking(["name", "x[0]"])
    >>> masking.hide({"instances": [{"name": "Ann", "x": [41.0, 2.5]}]})
    {'instances': [{'name': '***', 'x': ['***', 2.5]}]}
    """

    def __init__(self, fields: Iterable[str] = ()):
        self._names: set[str] = set()
        self._columns: dict[str, set[int]] = {}
        for field in fields:
            column = _COLUMN.fullmatch(field) if isinstance(field, str) else None
            if column:
                self._columns.setdefault(column["name"], set()).add(int(column["index"]))
            elif isinstance(field, str) and field and not set(field) & set("[]"):
                self._names.add(field)
            else:
                raise InputError(
                    f"{field!r} is no field to mask; expected a name, or 'NAME[INDEX]'."
                )

    def hide(self, body: dict[str, Any]) -> dict[str, Any]:
        """Returns a copy of a request's body without the sensitive values."""
        # A request with one input need not name it.
        unnamed = set().union(*self._columns.values())
        return self._hide(body, {"instances": unnamed, "inputs": unnamed, **self._columns}, set())

    def _hide(self, value: Any, columns: dict[str, set[int]], hidden: set[int]) -> Any:
        if isinstance(value, dict):
            return {
                key: MASK
                if key in self._names
                else self._hide(item, columns, columns.get(key, set()))
                for key, item in value.items()
            }
        if not isinstance(value, list):
            return value
        if any(isinstance(item, dict | list) for item in value):
            return [self._hide(item, columns, hidden) for item in value]
        return [MASK if place in hidden else item for place, item in enumerate(value)]
