"""A folder as one stream of bytes: a tar archive that depends on the folder's contents alone.

Entries are sorted; owners, times and the special bits of modes are left out, so that the same
folder gives the same bytes anywhere. A comment at the beginning says that it is a folder of ours;
any tar program reads the rest.
"""

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from keras_secure.errors import InputError
from keras_secure.integrity.paths import traversal_problem

BLOCK_SIZE = 512
COMMENT = "keras_secure folder 1"

_READ_SIZE = 2**20


def start_of_archive() -> bytes:
    """The bytes that every archive of a folder begins with."""
    return tarfile.TarInfo.create_pax_global_header({"comment": COMMENT})


def pack(folder: Path) -> BinaryIO:
    """Returns a stream of a folder's archive, which reads the files as it is read.

    Args:
        folder: What to pack: files, folders (empty ones too), their modes, and symbolic links that
            stay inside.

    Raises:
        InputError: While it is read: the folder holds something else, or changes meanwhile.
    """
    return io.BufferedReader(_Stream(_blocks(folder)), _READ_SIZE)


def link_problem(path: str, target: str) -> str:
    """Says why a symbolic link must not be in an archive; empty when it stays inside.

    Args:
        path: Where the link is, relative to the folder.
        target: What it says.
    """
    if target.startswith("/") or not target:
        return "it is absolute" if target else "it is empty"
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climb = next((i for i, part in enumerate(parts) if part != ".."), len(parts))
    # Folders above a link are real ones, so the first steps up are exact. After a name, which may
    # be a link itself, a step up may lead anywhere.
    if ".." in parts[climb:]:
        return "it goes up after it has gone down"
    if climb > path.count("/"):
        return "it leads out of the folder"
    return traversal_problem("/".join(parts[climb:])) if parts[climb:] else ""


def _blocks(folder: Path) -> Iterator[bytes]:
    yield start_of_archive()
    for path, here, status in _walk(folder):
        info = tarfile.TarInfo(path)
        info.mode = stat.S_IMODE(status.st_mode) & 0o777
        if stat.S_ISLNK(status.st_mode):
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, os.readlink(here), 0o777
            if problem := link_problem(path, info.linkname):
                raise _refusal(folder, path, f"is a link to {info.linkname!r}, and {problem}")
        elif stat.S_ISDIR(status.st_mode):
            info.type = tarfile.DIRTYPE
        elif stat.S_ISREG(status.st_mode):
            info.size = status.st_size
        else:
            raise _refusal(folder, path, "is a device, a pipe or a socket")
        try:
            yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
        except UnicodeEncodeError as error:
            raise _refusal(folder, path, "has a name that is not valid text") from error
        if info.isreg():
            yield from _contents(folder, path, here, info.size)
            yield bytes(-info.size % BLOCK_SIZE)
    yield bytes(2 * BLOCK_SIZE)


def _walk(folder: Path, prefix: str = "") -> Iterator[tuple[str, str, os.stat_result]]:
    """Yields every entry below a folder, each folder before what is in it."""
    pending = [(prefix, os.fspath(folder))]
    while pending:
        prefix, here = pending.pop()
        try:
            with os.scandir(here) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
            found = [(entry, entry.stat(follow_symlinks=False)) for entry in entries]
        except OSError as error:
            raise InputError(f"Folder {here} cannot be read: {error.strerror}.") from error
        for entry, status in found:
            path = prefix + entry.name
            if problem := traversal_problem(path):
                raise _refusal(folder, path, f"has a name that cannot be packed: {problem}")
            if stat.S_ISDIR(status.st_mode):
                pending.append((path + "/", entry.path))
            yield path, entry.path, status


def _contents(folder: Path, path: str, here: str, size: int) -> Iterator[bytes]:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(here, flags), "rb") as file:
            left = size
            while left:
                data = file.read(min(left, _READ_SIZE))
                if not data:
                    break
                left -= len(data)
                yield data
            if left or file.read(1):
                raise _refusal(folder, path, "changed its length while it was read")
    except OSError as error:
        raise InputError(f"{here} cannot be read: {error.strerror}.") from error


def _refusal(folder: Path, path: str, reason: str) -> InputError:
    return InputError(f"{path!r} in {folder} {reason}. Remove it or replace it by a plain file.")


class _Stream(io.RawIOBase):
    """The bytes of an iterator as a file."""

    def __init__(self, blocks):
        self._blocks, self._held = blocks, memoryview(b"")

    def readable(self):
        return True

    def readinto(self, buffer):
        while not self._held:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._held = memoryview(block)
        size = min(len(buffer), len(self._held))
        buffer[:size], self._held = self._held[:size], self._held[size:]
        return size
