"""Files that are either the old one or the whole new one, whatever interrupts the writing."""

import contextlib
import os
import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from keras_secure.errors import InputError

# Names are limited to 255 bytes, and a character may take four.
_KEPT_OF_NAME = 40


def temporary_name(path: str | os.PathLike, purpose: str = "part") -> Path:
    """A new hidden name beside `path`, short enough however long that name is.

    Example:

    >>> name = temporary_name("models/" + 250 * "x").name
    >>> len(name), name.startswith(".xxx"), name.endswith(".part")
    (63, True, True)
    """
    path = Path(path)
    return path.with_name(f".{path.name[:_KEPT_OF_NAME]}.{secrets.token_hex(8)}.{purpose}")


def remove_leftovers(paths: Iterable[str | os.PathLike], purpose: str = "part") -> None:
    """Removes what a process that was killed while it wrote to `paths` has left beside them.

    Args:
        paths: The files; nobody else may be writing them now.
        purpose: As for `temporary_name`.
    """
    begun = re.compile(rf"\.(.+)\.[0-9a-f]{{16}}\.{purpose}")
    names = defaultdict(set)
    for path in map(Path, paths):
        names[path.parent].add(path.name[:_KEPT_OF_NAME])
    for folder, kept in names.items():
        with contextlib.suppress(OSError):
            for entry in list(os.scandir(folder)):
                match = begun.fullmatch(entry.name)
                if match and match[1] in kept and entry.is_file(follow_symlinks=False):
                    os.unlink(entry.path)


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Turns what the system says while `path` is written into an error that names it.

    Args:
        path: What is written, as its user gave it.

    Raises:
        InputError: Anything but that something is there already, which stays a `FileExistsError`.

    Example:

    >>> with writing("/no/such/folder/note"):
    ...     write_atomically("/no/such/folder/note", b"whole")
    Traceback (most recent call last):
    keras_secure.errors.InputError: /no/such/folder/note cannot be written: No such file or
    directory. Give a name in a folder that exists and that you may write to.
    """
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise InputError(
            f"{os.fspath(path)} cannot be written: {error.strerror or error}. Give a name in a "
            "folder that exists and that you may write to."
        ) from error


def write_atomically(path: str | os.PathLike, data: bytes, mode: int = 0o644) -> None:
    """Writes `data` under a temporary name beside `path`, then renames it over `path`.

    Args:
        path: The file to create or to replace.
        data: The whole contents.
        mode: Permission bits of the new file, before the process's umask.

    Raises:
        OSError: The folder cannot be written to; nothing is left behind.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(f"{folder}/note", b"whole")
    ...     [entry.name for entry in Path(folder).iterdir()]
    ['note']
    """
    path = Path(path)
    temporary = temporary_name(path)
    try:
        write_new(temporary, data, mode)
        os.replace(temporary, path)
    except BaseException:
        # Whatever hinders the removal must not hide what went wrong.
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_new(path: str | os.PathLike, data: bytes, mode: int = 0o644) -> None:
    """Writes `data` to a file that must not exist yet, and to the disk before it returns.

    Args:
        path: The file to create; an existing file or link is never followed.
        data: The whole contents.
        mode: Permission bits, set while the file is created so that it is never more open.

    Raises:
        FileExistsError: Something has that name already.
        OSError: Writing failed; nothing is left behind.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


def sync_folder(path: str | os.PathLike) -> None:
    """Writes the names in a folder through to the disk, on systems that can.

    A file that was created or renamed may otherwise be gone after a power cut, whole as it is.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
