"""Where files differ from what was signed: found by the digest of each shard."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from keras_secure.errors import InputError
from keras_secure.integrity.shards import digest_files, shard_bounds
from keras_secure.integrity.statement import FileRecord, Statement
from keras_secure.integrity.tree import WHOLE, location

Kind = Literal["missing", "replaced", "truncated", "extended", "changed"]


@dataclass(frozen=True)
class DamagedFile:
    """A file that is not what was signed.

    Args:
        name: Its path in the statement.
        kind: `"missing"`, `"replaced"` (by a link or something else that is no plain file),
            `"truncated"`, `"extended"`, or `"changed"` within its length.
        size: Its length in bytes as it was signed.
        ranges: `(start, end)` of each signed shard that is not there; none for a file to which
            bytes were only added.
    """

    name: str
    kind: Kind
    size: int
    ranges: tuple[tuple[int, int], ...]

    def describe(self) -> str:
        """One line that names file and offsets."""
        if self.kind in ("missing", "replaced"):
            return f"{self.name!r} ({self.size} bytes) is {self.kind}"
        where = ", ".join(f"{start}-{end}" for start, end in joined(self.ranges))
        return f"{self.name!r} is {self.kind}" + (f" at bytes {where}" if where else "")


def find_damage(root: Path, statement: Statement) -> dict[str, DamagedFile]:
    """Compares every shard of every signed file with its digest.

    Args:
        root: The signed folder or file.
        statement: What was signed.

    Returns:
        The files that differ, by their names; names that were not signed are not looked for.

    Raises:
        InputError: A file is there and cannot be read.
        IntegrityError: A file changes while it is read.
    """
    damage, present = {}, []
    for name, record in statement.files.items():
        path = location(root, name, WHOLE in statement.files)
        # The root itself may be a link: whoever names it means what it leads to.
        path = path.resolve() if name == WHOLE else path
        kind = _kind_of(path)
        if kind is None:
            present.append((name, record, path))
        else:
            damage[name] = DamagedFile(name, kind, record.size or 0, _all_ranges(record, statement))
    seen = digest_files(
        [path for _, _, path in present],
        statement.shard_size,
        statement.algorithm,
        [2**63 if record.size is None else record.size for _, record, _ in present],
    )
    for (name, record, _), file in zip(present, seen, strict=True):
        size = file.size if record.size is None else record.size
        found = [*file.digests, *[""] * (len(record.digests) - len(file.digests))]
        ranges = tuple(
            bounds
            for bounds, digest, signed in zip(
                _all_ranges(record, statement), found, record.digests, strict=False
            )
            if digest != signed
        )
        if ranges or size != file.size:
            kind = "changed" if size == file.size else "truncated"
            kind = "extended" if file.size > size else kind
            damage[name] = DamagedFile(name, kind, size, ranges)
    return damage


def joined(ranges: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
    """Ranges with neighbours made one.

    Example:

    >>> joined(((0, 2), (2, 3), (5, 6)))
    [(0, 3), (5, 6)]
    """
    result: list[tuple[int, int]] = []
    for start, end in ranges:
        if result and result[-1][1] == start:
            result[-1] = (result[-1][0], end)
        else:
            result.append((start, end))
    return result


def _kind_of(path: Path) -> Kind | None:
    try:
        return None if stat.S_ISREG(os.lstat(path).st_mode) else "replaced"
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def _all_ranges(record: FileRecord, statement: Statement) -> tuple[tuple[int, int], ...]:
    size = record.size or 0
    return tuple(shard_bounds(size, statement.shard_size or max(size, 1)))
