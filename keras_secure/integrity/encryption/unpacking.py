"""Unpacking an archive that `packing` wrote, and nothing else that calls itself tar.

Whoever knows a recipient can encrypt for it, so an archive is as little trusted as any file: no
entry is written through a link, above the folder, twice, or as anything but a file, a folder, or a
link that stays inside. Links are made last, when nothing is written any more.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from keras_secure.errors import IntegrityError
from keras_secure.integrity.encryption.chunks import read_exactly
from keras_secure.integrity.encryption.packing import (
    BLOCK_SIZE,
    link_problem,
    start_of_archive,
)
from keras_secure.integrity.paths import traversal_problem

MAX_ENTRIES = 100_000

_MAX_PAX_SIZE = 2**16
_MAX_DEPTH = 100
_READ_SIZE = 2**20
_FILE, _LINK, _FOLDER, _PAX = b"0", b"2", b"5", b"x"


@dataclass(frozen=True)
class _Entry:
    kind: bytes
    path: str
    mode: int
    size: int
    target: str


def is_archive(file: BinaryIO) -> bool:
    """Whether a file begins as `pack` begins; the file is left at its start."""
    file.seek(0)
    start = start_of_archive()
    found = read_exactly(file, len(start))
    file.seek(0)
    return found == start


def unpack(file: BinaryIO, folder: Path, name: str) -> None:
    """Writes what an archive holds into a new folder of mode 0700, through to the disk.

    Args:
        file: The archive, at its start.
        folder: The folder to create.
        name: What to call the archive in errors.

    Raises:
        IntegrityError: It is not one that `pack` writes. What was unpacked so far is left for the
            caller to remove.
    """
    folder.mkdir(mode=0o700)
    read_exactly(file, len(start_of_archive()))
    folders, links, seen = {"": 0o700}, [], 0
    while (entry := _next_entry(file, name)) is not None:
        seen += 1
        _check(entry, folders, seen, name)
        target = folder / entry.path
        try:
            if entry.kind == _FOLDER:
                target.mkdir(mode=0o700)
                folders[entry.path] = entry.mode
            elif entry.kind == _LINK:
                links.append(entry)
            else:
                _write(file, target, entry, name)
        except FileExistsError as error:
            raise _refusal(name, f"{entry.path!r} is in it twice") from error
        except (OSError, ValueError) as error:
            raise _refusal(name, f"{entry.path!r} cannot be written ({error})") from error
    for entry in links:
        try:
            os.symlink(entry.target, folder / entry.path)
        except OSError as error:
            raise _refusal(name, f"link {entry.path!r} cannot be made ({error})") from error
    for path, mode in sorted(folders.items(), reverse=True):
        with contextlib.suppress(OSError):
            os.chmod(folder / path, mode)


def _check(entry: _Entry, folders: dict[str, int], seen: int, name: str) -> None:
    parent, _, _ = entry.path.rpartition("/")
    if problem := traversal_problem(entry.path):
        raise _refusal(name, f"path {entry.path!r} is not allowed, {problem}")
    if parent not in folders:
        raise _refusal(name, f"{entry.path!r} is in no folder that came before it")
    if seen > MAX_ENTRIES or entry.path.count("/") > _MAX_DEPTH:
        raise _refusal(
            name, f"it has more than {MAX_ENTRIES} entries, or folders {_MAX_DEPTH} deep"
        )
    if entry.kind == _LINK and (problem := link_problem(entry.path, entry.target)):
        raise _refusal(name, f"{entry.path!r} is a link to {entry.target!r}, and {problem}")
    if entry.kind != _FILE and entry.size:
        raise _refusal(name, f"{entry.path!r} has contents that it must not have")


def _write(file: BinaryIO, path: Path, entry: _Entry, name: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as output:
        left = entry.size
        while left:
            data = file.read(min(left, _READ_SIZE))
            if not data:
                raise _refusal(name, f"it ends within {entry.path!r}")
            output.write(data)
            left -= len(data)
        output.flush()
        os.fsync(output.fileno())
    os.chmod(path, entry.mode)
    if any(read_exactly(file, -entry.size % BLOCK_SIZE)):
        raise _refusal(name, f"bytes follow {entry.path!r} that belong to nothing")


def _next_entry(file: BinaryIO, name: str) -> _Entry | None:
    """Reads a header, with the one before it that holds what is too long for it; None at the end.

    Raises:
        IntegrityError: They are not of the form that `pack` writes.
    """
    try:
        block = read_exactly(file, BLOCK_SIZE)
        if not any(block):
            if len(block) < BLOCK_SIZE or read_exactly(file, 2 * BLOCK_SIZE) != bytes(BLOCK_SIZE):
                raise ValueError("its end is missing, or something follows it")
            return None
        long: dict[str, str] = {}
        if _kind(block) == _PAX:
            size = _number(block[124:136])
            if size > _MAX_PAX_SIZE:
                raise ValueError("a name is too long")
            data = read_exactly(file, size + -size % BLOCK_SIZE)
            if len(data) < size or any(data[size:]):
                raise ValueError("a name is cut short")
            long = _records(data[:size])
            block = read_exactly(file, BLOCK_SIZE)
        kind = _kind(block)
        if kind not in (_FILE, _LINK, _FOLDER):
            raise ValueError(f"an entry is of type {kind!r}, neither file nor folder nor link")
        short = "/".join(part for part in (_text(block[345:500]), _text(block[:100])) if part)
        return _Entry(
            kind=kind,
            path=long.get("path", short).removesuffix("/" if kind == _FOLDER else ""),
            mode=_number(block[100:108]) & 0o777,
            size=int(long.get("size", _number(block[124:136]))),
            target=long.get("linkpath", _text(block[157:257])),
        )
    except ValueError as error:
        raise _refusal(name, str(error)) from error


def _kind(block: bytes) -> bytes:
    if len(block) < BLOCK_SIZE:
        raise ValueError("it ends early")
    # The checksum counts itself as spaces.
    if _number(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        raise ValueError("a header's checksum does not fit")
    return block[156:157]


def _number(field: bytes) -> int:
    digits = field.strip(b" \0")
    if not digits or not set(digits) <= set(b"01234567"):
        raise ValueError("a number in a header is not octal")
    return int(digits, 8)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode()


def _records(data: bytes) -> dict[str, str]:
    """Reads the records of a pax header: `LENGTH KEY=VALUE` and a line's end each."""
    found: dict[str, str] = {}
    while data:
        length, _, _ = data[:8].partition(b" ")
        if not length.isdigit() or not len(length) + 1 < int(length) <= len(data):
            raise ValueError("a long name has no length")
        record, data = data[: int(length)], data[int(length) :]
        key, separator, value = record[len(length) + 1 : -1].decode().partition("=")
        if not separator or record[-1:] != b"\n" or key in found:
            raise ValueError("a long name is not of the form that names have")
        if key not in ("path", "linkpath", "size") or (key == "size" and not value.isdecimal()):
            raise ValueError(f"an entry has the attribute {key!r}, which folders of ours have not")
        found[key] = value
    return found


def _refusal(name: str, reason: str) -> IntegrityError:
    return IntegrityError(
        f"{name} was decrypted and holds no folder that can be unpacked: {reason}. Ask whoever "
        "encrypted it; unpack=False leaves the archive as it is."
    )


def sync_tree(folder: Path) -> None:
    """Writes the names in a folder and in all below it through to the disk."""
    for here, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            descriptor = os.open(here, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
