"""Files that are no model: harmless ones, and those that execute code."""

import json
import zlib
from collections.abc import Iterator
from typing import Any

from keras_secure.integrity.scan.collector import Collector
from keras_secure.integrity.scan.content import content_kinds
from keras_secure.integrity.scan.json_document import read_json
from keras_secure.integrity.scan.keras_config import inspect_config
from keras_secure.integrity.scan.place import Place, quoted
from keras_secure.integrity.scan.region import Region

_CODE_SUFFIXES = (
    *(".py", ".pyc", ".pyd", ".pyw", ".pth", ".sh", ".bat", ".cmd", ".ps1", ".js", ".vbs"),
    *(".so", ".dll", ".dylib", ".exe", ".jar", ".rb", ".pl", ".lua"),
)


def inspect_other(
    data: Region, name: str, place: Place, collector: Collector, strict: bool = False
) -> str:
    """Looks into a file that should be data: a vocabulary, a licence, a card.

    Args:
        data: The file.
        name: Its name.
        place: Where it stands.
        collector: Takes the findings.
        strict: Whether the file is what was to be scanned, so that an unknown form is a finding.

    Returns:
        What it is.
    """
    kinds = content_kinds(data)
    kind = kinds[0] if kinds else "unknown"
    if len(kinds) > 1:
        collector.add("scan.file.polyglot", f"The file is {' and '.join(kinds)} at once.", place)
    if kind == "pickle":
        collector.add("scan.file.pickle", "The file is a pickle.", place)
    elif kind == "executable":
        collector.add("scan.file.executable", "The file is a program.", place)
    elif kind in ("script", "source"):
        suffix = name.lower().rpartition(".")[2]
        harmless = kind == "source" and suffix in ("txt", "md", "vocab", "csv", "tsv", "rst")
        if not harmless:
            collector.add("scan.file.script", "The file is source code.", place)
    elif kind in ("archive", "tar", "zlib"):
        _inspect_compressed(data, kind, place, collector)
    elif kind == "zip":
        collector.add("scan.archive.nested", "The file is an archive of its own.", place)
    elif kind == "npy":
        from keras_secure.integrity.scan.numpy_file import inspect_npy

        inspect_npy(data, place, collector)
    elif kind == "json" or name.lower().endswith(".json"):
        _inspect_json(data, name, place, collector)
    elif kind in ("unknown", "gguf", "safetensors", "tflite", "rds") and strict:
        collector.add(
            "scan.file.unknown",
            f"The file's form is not known ({kind}), so it is not vouched for.",
            place,
        )
    if kind not in ("executable", "script", "source") and name.lower().endswith(_CODE_SUFFIXES):
        collector.add("scan.file.name", f"The name {quoted(name)!r} is that of a program.", place)
    return kind


def _inspect_json(data: Region, name: str, place: Place, collector: Collector) -> None:
    if data.size > collector.limits.document:
        collector.add("scan.json.size", f"The document has {data.size} bytes.", place)
        return
    text = data.at(0, data.size)
    if not name.lower().endswith(".json"):
        # A list of words may begin with a bracket.
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return
    document = read_json(text, place, collector)
    for config, path in _configurations(document):
        declared = inspect_config(config, place.inside(path) if path else place, collector)
        collector.count_parameters(place, declared=declared)


def _configurations(document: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """The outermost configurations in a document of any kind, and their places."""
    stack: list[tuple[Any, str]] = [(document, "")]
    while stack:
        value, path = stack.pop()
        if isinstance(value, dict) and "class_name" in value:
            yield value, path
        elif isinstance(value, dict):
            stack += [(child, f"{path}/{quoted(key, 60)}") for key, child in value.items()]
        elif isinstance(value, list):
            stack += [(child, f"{path}/{index}") for index, child in enumerate(value)]


def _inspect_compressed(data: Region, kind: str, place: Place, collector: Collector) -> None:
    start = b""
    if kind == "zlib" or data.at(0, 2) == b"\x1f\x8b":
        inflater = zlib.decompressobj(47)
        try:
            start = inflater.decompress(data.at(0, 65_536), 65_536)
        except zlib.error:
            start = b""
    if start:
        import io

        if content_kinds(Region.whole(io.BytesIO(start)))[:1] == ["pickle"]:
            collector.add("scan.file.pickle", "The file is a compressed pickle.", place)
            return
    if kind != "zlib" or start:
        collector.add("scan.file.archive", f"The file is compressed ({kind}).", place)
