"""Files whose bytes are not those that were signed: where in the file, and where they came from."""

import os
from pathlib import Path
from typing import Any, TypeAlias

from keras_secure.integrity.comparison import Comparison
from keras_secure.integrity.paths import printable
from keras_secure.integrity.shards import digest_files
from keras_secure.integrity.statement import FileRecord
from keras_secure.integrity.tree import Tree

_SHOWN = 3

# Size, where it is known, and digests: the same for the same bytes.
_Content: TypeAlias = tuple[int | None, tuple[str, ...]]


def compare_contents(comparison: Comparison) -> None:
    """Enters every file that is changed, cut, extended, missing, added, renamed or swapped.

    Args:
        comparison: What was signed and what is there.

    Raises:
        InputError: A file cannot be read.
        IntegrityError: A file changes while it is read.
    """
    signed, there = comparison.statement, comparison.tree
    taken = {*there.files, *there.folders, *there.links, *there.special}
    known = {*signed.files, *signed.folders, *signed.links}
    common = [path for path in signed.files if path in there.files]
    gone = [path for path in signed.files if path not in taken]
    new = [path for path in there.files if path not in known]
    # What is longer than it was is read no further: its length alone is a difference.
    lengths = [_length(signed.files[path], there.files[path][0]) for path in common]
    found = _contents(comparison, common, lengths)
    changed = [path for path in common if found[path] != _signed_content(signed.files[path])]
    if not (changed or gone or new):
        return
    whole = _whole_contents(comparison, changed, new, gone, found)
    origins = _origins(comparison, whole, gone, changed)
    _report_moves(comparison, new, gone, origins)
    for path in changed:
        if path in origins:
            comparison.add(
                "swapped",
                path,
                f"holds the contents that were signed as {origins[path]!r}",
                "Give the files their names again.",
                holds=origins[path],
            )
        else:
            _report_change(comparison, path, found[path][1])


def _report_moves(
    comparison: Comparison, new: list[str], gone: list[str], origins: dict[str, str]
) -> None:
    moved = {origins[path]: path for path in new if origins.get(path) in gone}
    for path in gone:
        if path not in moved:
            comparison.add("missing", path, "is missing")
            continue
        comparison.add(
            "renamed",
            path,
            f"was renamed to {moved[path]!r}",
            "Give it its name again.",
            new_path=printable(moved[path]),
        )
    for path in sorted(set(new) - set(moved.values())):
        copy = f", a copy of what was signed as {origins[path]!r}" if path in origins else ""
        comparison.add(
            "added",
            path,
            f"was added{copy}",
            "Remove it, unless its publisher vouches for it.",
        )


def _report_change(comparison: Comparison, path: str, digests: tuple[str, ...]) -> None:
    record, size = comparison.statement.files[path], comparison.tree.files[path][0]
    shard_size = comparison.statement.shard_size
    if shard_size is None or record.size is None:
        comparison.add("changed", path, "was changed", size=size)
        return
    # The shard in which a shorter file ends cannot be compared.
    comparable = size // shard_size if size < record.size else len(digests)
    wrong = [number for number in range(comparable) if digests[number] != record.digests[number]]
    facts: dict[str, Any] = {"size": size, "signed_size": record.size, "shard_size": shard_size}
    if not wrong and size < record.size:
        statement = f"was cut to {size} of {record.size} bytes"
        comparison.add("truncated", path, statement, offset=size, **facts)
    elif not wrong:
        statement = f"was extended from {record.size} to {size} bytes"
        comparison.add("extended", path, statement, offset=record.size, **facts)
    else:
        comparison.add(
            "changed",
            path,
            f"was changed at bytes {_places(wrong, shard_size, min(size, record.size))}"
            + (f", and has {size} bytes in place of {record.size}" if size != record.size else ""),
            offsets=[number * shard_size for number in wrong],
            shards=wrong,
            **facts,
        )


def _places(shards: list[int], shard_size: int, size: int) -> str:
    """Stretches of bytes, neighbours joined, the first few of them."""
    stretches: list[list[int]] = []
    for number in shards:
        if stretches and stretches[-1][1] == number:
            stretches[-1][1] += 1
        else:
            stretches.append([number, number + 1])
    shown = [
        f"{first * shard_size} to {min(last * shard_size, size)}"
        for first, last in stretches[:_SHOWN]
    ]
    more = len(stretches) - _SHOWN
    return ", ".join(shown) + (f" and at {more} more places" if more > 0 else "")


def _whole_contents(
    comparison: Comparison,
    changed: list[str],
    new: list[str],
    gone: list[str],
    found: dict[str, _Content],
) -> dict[str, _Content]:
    """Contents of those files that, by their size, may be a signed file in a wrong place."""
    signed, there = comparison.statement.files, comparison.tree.files
    sizes = {signed[path].size for path in [*gone, *changed]}
    likely = [path for path in [*changed, *new] if None in sizes or there[path][0] in sizes]
    # What was read up to its signed size was read whole if that is its size.
    whole = {
        path: found[path]
        for path in likely
        if path in found and signed[path].size in (None, there[path][0])
    }
    rest = [path for path in likely if path not in whole]
    return whole | _contents(comparison, rest, [there[path][0] for path in rest])


def _origins(
    comparison: Comparison, whole: dict[str, _Content], gone: list[str], changed: list[str]
) -> dict[str, str]:
    """For each file in a wrong place, the path under which its contents were signed."""
    places: dict[_Content, list[str]] = {}
    for path in [*gone, *changed]:
        places.setdefault(_signed_content(comparison.statement.files[path]), []).append(path)
    origins = {}
    for path, content in whole.items():
        if alike := places.get(content):
            # Of several alike, each is taken once before one is taken twice.
            origins[path] = alike.pop(0) if len(alike) > 1 else alike[0]
    return origins


def _contents(comparison: Comparison, paths: list[str], lengths: list[int]) -> dict[str, _Content]:
    statement = comparison.statement
    places = [_place(comparison.tree, path) for path in paths]
    found = digest_files(places, statement.shard_size, statement.algorithm, lengths)
    sized = statement.shard_size is not None
    return {
        path: (file.size if sized else None, tuple(file.digests))
        for path, file in zip(paths, found, strict=True)
    }


def _signed_content(record: FileRecord) -> _Content:
    return record.size, record.digests


def _length(record: FileRecord, size: int) -> int:
    return size if record.size is None else record.size


def _place(tree: Tree, path: str) -> Path:
    # A link here is the root itself, or one that model-signing follows too.
    place = tree.location(path)
    return Path(os.path.realpath(place)) if place.is_symlink() else place
