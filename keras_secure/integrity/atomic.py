"""Files that are either the old one or the whole new one, whatever interrupts the writing."""

import contextlib
import os
import secrets
from pathlib import Path


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
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        write_new(temporary, data, mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
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
        with contextlib.suppress(FileNotFoundError):
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
