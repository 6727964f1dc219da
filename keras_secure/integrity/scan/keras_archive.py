"""`.keras` files and other zip files that hold models or arrays."""

from typing import Any

from keras_secure.integrity.scan.collector import Collector
from keras_secure.integrity.scan.content import content_kinds
from keras_secure.integrity.scan.hdf5_file import inspect_hdf5
from keras_secure.integrity.scan.json_document import read_json
from keras_secure.integrity.scan.keras_config import inspect_config
from keras_secure.integrity.scan.numpy_file import inspect_npy
from keras_secure.integrity.scan.other_file import inspect_other
from keras_secure.integrity.scan.place import Place, quoted
from keras_secure.integrity.scan.region import Region
from keras_secure.integrity.scan.zip_archive import ZipArchive
from keras_secure.integrity.scan.zip_directory import Entry, MalformedArchive

CONFIG, METADATA = "config.json", "metadata.json"
WEIGHTS = ("model.weights.h5", "model.weights.npz")


def inspect_zip(data: Region, place: Place, collector: Collector) -> tuple[str, int]:
    """Checks a zip file and everything in it.

    Args:
        data: The file.
        place: Where it stands.
        collector: Takes the findings.

    Returns:
        `"keras"`, `"npz"`, or `"zip"` for what is neither; and the values that its arrays have.
    """
    try:
        archive = ZipArchive(data, place, collector)
    except MalformedArchive as error:
        collector.add("scan.archive.malformed", f"The archive cannot be read: {error}.", place)
        return "zip", 0
    names = {entry.name for entry in archive.entries}
    if names & {CONFIG, METADATA, *WEIGHTS}:
        _inspect_keras(archive, names, place, collector)
        return "keras", 0
    files = [entry for entry in archive.entries if not entry.is_folder]
    if files and all(entry.name.endswith(".npy") for entry in files):
        return "npz", sum(_inspect_array(archive, entry, place, collector) for entry in files)
    collector.add(
        "scan.file.unknown",
        "The zip file is neither a Keras model nor an archive of arrays.",
        place,
        entries=sorted(names)[:10],
    )
    for entry in files:
        contents = archive.open(entry)
        if contents is not None:
            inspect_other(contents, entry.name, place.inside(entry.name), collector)
    return "zip", 0


def _inspect_array(archive: ZipArchive, entry: Entry, place: Place, collector: Collector) -> int:
    collector.files += 1
    contents = archive.open(entry)
    if contents is None:
        return 0
    inner = place.inside(entry.name)
    if content_kinds(contents) == ["npy"]:
        return inspect_npy(contents, inner, collector)
    collector.add("scan.numpy.header", "The entry is no array.", inner)
    inspect_other(contents, entry.name, inner, collector)
    return 0


def _inspect_keras(
    archive: ZipArchive, names: set[str], place: Place, collector: Collector
) -> None:
    declared = stored = 0
    for entry in sorted(archive.entries, key=lambda entry: entry.name.startswith("model.weights")):
        collector.tick()
        if entry.is_folder:
            if entry.size:
                collector.add(
                    "scan.archive.hidden", "A folder has contents.", place.inside(entry.name)
                )
            continue
        collector.files += 1
        contents = archive.open(entry)
        if contents is None:
            continue
        inner = place.inside(entry.name)
        if entry.name in (CONFIG, METADATA):
            if contents.size > collector.limits.document:
                text = b""
                collector.add("scan.json.size", f"It has {contents.size} bytes.", inner)
                continue
            text = contents.at(0, contents.size)
            document = read_json(text, inner, collector)
            declared += _inspect_document(entry.name, document, inner, collector)
        elif _is_weights(entry.name):
            stored += _inspect_weights(contents, entry, inner, collector)
        elif entry.name.startswith("assets/"):
            inspect_other(contents, entry.name, inner, collector)
        else:
            collector.add(
                "scan.archive.unexpected",
                f"Keras writes no entry {quoted(entry.name)!r} into a model.",
                inner,
            )
            inspect_other(contents, entry.name, inner, collector)
    missing = [name for name in (CONFIG, METADATA) if name not in names]
    if not any(_is_weights(name) for name in names):
        missing.append(WEIGHTS[0])
    if missing:
        collector.add("scan.archive.incomplete", f"The model lacks {', '.join(missing)}.", place)
    check_budget(declared, stored, place, collector)


def check_budget(declared: int, stored: int, place: Place, collector: Collector) -> None:
    """Compares the parameters that a configuration declares with the values that are stored.

    Args:
        declared: A lower bound of what the configuration asks for.
        stored: Count of values in the weights.
        place: Where the model stands.
        collector: Takes the finding.
    """
    if declared > collector.limits.parameters + 2 * stored:
        collector.add(
            "scan.keras.budget",
            f"The configuration declares at least {declared} parameters; {stored} are stored.",
            place,
            declared=declared,
            stored=stored,
        )


def _inspect_document(name: str, document: Any, place: Place, collector: Collector) -> int:
    if document is None:
        return 0
    if not isinstance(document, dict):
        collector.add("scan.keras.malformed", "The document is no JSON object.", place)
        return 0
    if name == CONFIG and "class_name" not in document:
        collector.add("scan.keras.malformed", "The configuration names no class.", place)
    if name == METADATA and not isinstance(document.get("keras_version"), str):
        collector.add("scan.keras.malformed", "The metadata name no version of Keras.", place)
    return inspect_config(document, place, collector)


def _is_weights(name: str) -> bool:
    if "/" in name:
        return False
    return name in WEIGHTS or name.endswith((".weights.h5", ".weights.json"))


def _inspect_weights(contents: Region, entry: Entry, place: Place, collector: Collector) -> int:
    kinds = content_kinds(contents)
    if kinds == ["hdf5"]:
        found = inspect_hdf5(contents, place, collector)
        return found.stored
    if kinds == ["zip"] and entry.name.endswith(".npz"):
        return inspect_zip(contents, place, collector)[1]
    if kinds == ["json"] and entry.name.endswith(".json"):
        inspect_other(contents, entry.name, place, collector)
        return 0
    collector.add(
        "scan.hdf5.malformed",
        f"The weights are no HDF5 file but {' and '.join(kinds) or 'of no known form'}.",
        place,
    )
    inspect_other(contents, entry.name, place, collector)
    return 0
