"""JSON as Keras reads it, with limits, and with what a careful reader would have refused."""

import json
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
    # Brackets within strings count too here, so that this alone proves nothing.
    suspicious = _brackets(encoded, collector) > collector.limits.depth
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
    except RecursionError:
        _report_depth("too deep for the parser", place, collector)
        return None
    except ValueError as error:
        collector.add(
            "scan.json.malformed",
            f"The document cannot be parsed: {quoted(str(error))}.",
            place,
        )
        return None
    if suspicious and (depth := _depth(document)) > collector.limits.depth:
        _report_depth(f"{depth} deep", place, collector)
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


def _report_depth(how: str, place: Place, collector: Collector) -> None:
    collector.add(
        "scan.json.depth",
        f"The document is nested {how}; at most {collector.limits.depth} levels are read.",
        place,
    )


def _brackets(data: bytes, collector: Collector) -> int:
    depth = deepest = 0
    # All but brackets are dropped in one pass of C.
    brackets = data.translate(None, _OTHERS)
    for start in range(0, len(brackets), 2**20):
        collector.tick()
        for bracket in brackets[start : start + 2**20]:
            depth += 1 if bracket in b"[{" else -1
            deepest = max(deepest, depth)
        if deepest > collector.limits.depth:
            break
    return deepest


def _depth(document: Any) -> int:
    deepest, level = 0, [document]
    while level:
        deepest += 1
        level = [
            child
            for value in level
            if isinstance(value, (dict, list))
            for child in (value.values() if isinstance(value, dict) else value)
            if isinstance(child, (dict, list))
        ]
    return deepest


_OTHERS = bytes(set(range(256)) - set(b"[]{}"))
