"""JSON as Keras reads it, with limits, and with what a careful reader would have refused."""

import json
import re
from typing import Any

from keras_secure.integrity.scan.collector import Collector
from keras_secure.integrity.scan.place import Place, quoted


def read_json(data: bytes | str, place: Place, collector: Collector) -> Any:
    """Parses a JSON document and reports what is unusual about it.

    Args:
        data: The document, in UTF-8, UTF-16 or UTF-32 as `json.loads` takes it.
        place: Where it stands.
        collector: Takes the findings.

    Returns:
        The parsed document; None where there is none (a finding says why).

    Example:

    >>> found = []
    >>> from keras_secure.integrity.scan.limits import ScanLimits
    >>> collector = Collector(found.append, ScanLimits())
    >>> read_json('{"a": 1, "a": 2}', Place("config.json"), collector), found[0].id
    ({'a': 2}, 'scan.json.duplicate_key')
    """
    limit = collector.limits.document
    if len(data) > limit:
        collector.add(
            "scan.json.size",
            f"The document has {len(data)} bytes; at most {limit} are read.",
            place,
            bytes=len(data),
        )
        return None
    encoded = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    depth = _depth(encoded, collector.limits.depth)
    if depth > collector.limits.depth:
        collector.add(
            "scan.json.depth",
            f"The document is nested {depth} deep; at most {collector.limits.depth} is read.",
            place,
            depth=depth,
        )
        return None
    twice: list[tuple[str, list[Any]]] = []
    constants: list[str] = []

    def pairs(items):
        kept: dict[str, Any] = {}
        for key, value in items:
            if key in kept:
                twice.append((key, [kept[key], value]))
            kept[key] = value
        return kept

    def constant(name):
        constants.append(name)
        return float(name)

    try:
        document = json.loads(data, object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        collector.add(
            "scan.json.malformed",
            f"The document cannot be parsed: {quoted(str(error))}.",
            place,
        )
        return None
    for key, values in twice:
        collector.add(
            "scan.json.duplicate_key",
            f"The key {quoted(key)!r} stands twice in one object; readers differ in which one "
            "they take.",
            place,
            key=key,
            values=[quoted(repr(value)) for value in values],
        )
    if constants:
        collector.add(
            "scan.json.constant",
            f"{len(constants)} numbers are {constants[0]} or alike, which JSON does not know.",
            place,
            constants=sorted(set(constants)),
        )
    return document


def _depth(data: bytes, limit: int) -> int:
    # Brackets within strings count too at first, unless they are balanced there.
    deepest = _brackets(data)
    return deepest if deepest <= limit else _brackets(_STRING.sub(b"", data))


def _brackets(data: bytes) -> int:
    depth = deepest = 0
    # Brackets alone, in one pass of C.
    for bracket in data.translate(None, _OTHERS):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))
