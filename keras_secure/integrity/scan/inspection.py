"""Looks at a path of any kind: tells by its contents what it is, and has it inspected."""

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from keras_secure.integrity.scan.checkpoint_index import inspect_checkpoint
from keras_secure.integrity.scan.collector import Collector
from keras_secure.integrity.scan.content import content_kinds
from keras_secure.integrity.scan.hdf5_file import inspect_hdf5
from keras_secure.integrity.scan.keras_archive import check_budget, inspect_zip
from keras_secure.integrity.scan.names import name_problem
from keras_secure.integrity.scan.numpy_file import inspect_npy
from keras_secure.integrity.scan.other_file import inspect_other
from keras_secure.integrity.scan.place import Place, quoted
from keras_secure.integrity.scan.region import Region
from keras_secure.integrity.scan.saved_model import inspect_keras_metadata, inspect_saved_model

GRAPH = "saved_model.pb"
_EXPECTED = {
    ".keras": ("keras",),
    ".npz": ("npz",),
    ".npy": ("npy",),
    ".h5": ("hdf5", "weights"),
    ".hdf5": ("hdf5", "weights"),
}
_DEEPEST_FOLDER = 40
_VARIABLES = re.compile(r"(|.*/)variables/variables\.(?:index|data-\d{5}-of-\d{5})")


def inspect_path(path: Path, collector: Collector, enter: Callable[[str], None]) -> str:
    """Inspects a file, or a folder with everything in it.

    Args:
        path: What to inspect.
        collector: Takes the findings.
        enter: Told the file that is looked at next, for the case that it ends the process.

    Returns:
        The format: `"keras"`, `"hdf5"`, `"weights"`, `"npz"`, `"npy"`, `"saved_model"`, `"folder"`
        or what an unknown file seems to be.
    """
    if not path.is_dir():
        return inspect_file(path, path.name, collector, enter, strict=True)
    files = list(_walk(path, collector))
    names = {name for name, _ in files}
    kinds: dict[str, str] = {}
    roots = {name[: -len(GRAPH)] for name in names if name.rpartition("/")[2] == GRAPH}
    for name, entry in files:
        collector.tick()
        if entry is None:
            continue
        if _is_variables(name, roots):
            collector.files += 1
            collector.bytes += entry.stat(follow_symlinks=False).st_size
            continue
        kinds[name] = inspect_file(Path(entry.path), name, collector, enter, strict=False)
    for folder, (declared, stored) in collector.parameters.items():
        check_budget(declared, stored, Place(folder or "."), collector)
    for prefix in sorted(roots):
        _check_variables(path, prefix, names, collector, enter)
    if GRAPH in names:
        return "saved_model"
    if not set(kinds.values()) & {"keras", "hdf5", "weights", "npz", "npy", "saved_model"}:
        collector.add(
            "scan.file.unknown",
            "No file in the folder is a model that the scanner knows.",
            Place("."),
        )
    return "folder"


def inspect_file(
    path: Path, name: str, collector: Collector, enter: Callable[[str], None], strict: bool
) -> str:
    """Inspects one file; whatever goes wrong is a finding.

    Args:
        path: The file.
        name: Its path relative to what is scanned.
        collector: Takes the findings.
        enter: Told the file's name.
        strict: Whether the file is what was to be scanned, and so must be a model.

    Returns:
        The file's format.
    """
    from keras_secure.integrity.scan.collector import OutOfTime

    place = Place(quoted(name, 1000))
    enter(place.file)
    collector.files += 1
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                collector.add("scan.file.special", "It is no regular file.", place)
                return "special"
            data = Region.whole(file)
            collector.bytes += data.size
            return _inspect_data(data, name, place, collector, strict)
    except (OutOfTime, MemoryError):
        raise
    except OSError as error:
        collector.add(
            "scan.file.unreadable", f"The file cannot be read: {quoted(str(error))}.", place
        )
    except Exception as error:
        # Hostile bytes find every gap in a parser; none of them may pass for harmless.
        collector.add(
            "scan.file.malformed",
            f"The file could not be understood ({type(error).__name__}: {quoted(str(error))}).",
            place,
        )
    return "malformed"


def _inspect_data(data: Region, name: str, place: Place, collector: Collector, strict: bool) -> str:
    base = name.rpartition("/")[2].lower()
    if base in (GRAPH, "keras_metadata.pb", "fingerprint.pb"):
        return _inspect_message(data, base, place, collector)
    if base in ("saved_model.pbtxt", "saved_model.cpb"):
        collector.add("scan.savedmodel.text", "The graph is not in its binary form.", place)
        return "saved_model"
    kinds = content_kinds(data)
    if len(kinds) > 1:
        collector.add("scan.file.polyglot", f"The file is {' and '.join(kinds)} at once.", place)
    kind = ""
    if "zip" in kinds:
        kind, stored = inspect_zip(data, place, collector)
        collector.count_parameters(place, stored=stored)
    if "hdf5" in kinds:
        found = inspect_hdf5(data, place, collector)
        check_budget(found.declared, found.stored, place, collector)
        collector.count_parameters(place, stored=found.stored)
        kind = kind or ("hdf5" if found.has_config else "weights")
    if kinds == ["npy"]:
        inspect_npy(data, place, collector)
        kind = "npy"
    if not kind:
        kind = inspect_other(data, base, place, collector, strict)
    expected = _EXPECTED.get(os.path.splitext(base)[1])
    if expected and kind not in expected:
        collector.add(
            "scan.file.mismatch",
            f"The name says {' or '.join(expected)}, the contents are {kind}.",
            place,
        )
    return kind


def _inspect_message(data: Region, base: str, place: Place, collector: Collector) -> str:
    if base == GRAPH:
        inspect_saved_model(data, place, collector)
        return "saved_model"
    if base == "keras_metadata.pb":
        inspect_keras_metadata(data, place, collector)
    return "message"


def _is_variables(name: str, roots: set[str]) -> bool:
    """Whether it is the index or the values of a SavedModel's variables, and nothing else's."""
    found = _VARIABLES.fullmatch(name)
    return found is not None and found[1] in roots


def _check_variables(
    root: Path, prefix: str, names: set[str], collector: Collector, enter: Callable[[str], None]
) -> None:
    index = f"{prefix}variables/variables.index"
    if index in names:
        enter(index)
        inspect_checkpoint(root / prefix / "variables", index, collector)
    elif any(name.startswith(f"{prefix}variables/") for name in names):
        collector.add(
            "scan.savedmodel.incomplete", "The index of the variables is missing.", Place(index)
        )


def _walk(root: Path, collector: Collector) -> Iterator[tuple[str, os.DirEntry | None]]:
    """Every file below `root`, none through a link."""
    count = 0
    stack = [("", root, 0)]
    folded: dict[str, str] = {}
    while stack:
        prefix, folder, depth = stack.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            collector.add(
                "scan.file.unreadable",
                f"The folder cannot be read: {quoted(str(error))}.",
                Place(prefix or "."),
            )
            continue
        for entry in entries:
            collector.tick()
            name = prefix + entry.name
            place = Place(quoted(name, 1000))
            count += 1
            if count > collector.limits.files:
                collector.add(
                    "scan.limits.files", f"The folder has more than {count - 1} files.", Place(".")
                )
                return
            if problem := name_problem(name):
                collector.add("scan.file.name", f"The name {problem}.", place)
            if entry.is_symlink():
                target = os.readlink(entry.path)
                collector.add(
                    "scan.file.symlink",
                    f"It is a link to {quoted(target)!r}.",
                    place,
                    target=target,
                )
            elif entry.is_dir(follow_symlinks=False):
                if depth >= _DEEPEST_FOLDER:
                    collector.add("scan.limits.files", "Folders are nested too deep.", place)
                else:
                    stack.append((name + "/", Path(entry.path), depth + 1))
            elif entry.is_file(follow_symlinks=False):
                other = folded.setdefault(name.casefold(), name)
                if other != name:
                    collector.add(
                        "scan.file.name", f"The name differs from {other!r} by case only.", place
                    )
                yield name, entry
            else:
                collector.add("scan.file.special", "It is a device, a pipe or a socket.", place)
