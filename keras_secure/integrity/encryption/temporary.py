"""Files that are written under a recognizable name and renamed when they are whole.

What a process leaves that was killed meanwhile (`.NAME.0123456789abcdef.decrypting`, mode 0600) is
removed by the next call that writes to the same folder. A file that is still being written is told
by its lock, which the system lets go of when a process ends, however it ends.
"""

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from keras_secure.errors import InputError
from keras_secure.integrity.atomic import sync_folder

_NAME = re.compile(r"\..+\.[0-9a-f]{16}\.(encrypting|decrypting)")
UNPACKED = ".unpacked"
# Where files cannot be locked, one that nobody has written to for so long is taken for abandoned.
_ABANDONED_SECONDS = 24 * 3600


@contextlib.contextmanager
def temporary_file(output: Path, purpose: str) -> Iterator[tuple[Path, BinaryIO]]:
    """Gives a new locked file beside `output`, which is removed at the end if it is still there.

    Args:
        output: What the file, or what is unpacked from it, is going to be.
        purpose: `"encrypting"` or `"decrypting"`.

    Yields:
        Its path and the open file. Beside it, a folder of the same name and `UNPACKED` may be made,
        which is removed as well.

    Raises:
        InputError: The folder of `output` cannot be written to.
    """
    remove_abandoned(output.parent)
    path, file = _create(output, purpose)
    try:
        with file:
            yield path, file
    finally:
        _remove(path)


def remove_abandoned(folder: Path) -> list[Path]:
    """Removes what processes left in a folder that were killed while they wrote.

    Returns:
        The paths that were removed.
    """
    removed = []
    with contextlib.suppress(OSError):
        for entry in os.listdir(folder):
            if _NAME.fullmatch(entry.removesuffix(UNPACKED)) and _is_abandoned(folder, entry):
                removed.append(folder / entry)
    return removed


def put_in_place(temporary: Path, output: Path, overwrite: bool) -> None:
    """Renames what is whole, on the disk, to the name that it was written for.

    Raises:
        InputError: Something has taken the place meanwhile.
    """
    check_output(output, overwrite)
    try:
        os.replace(temporary, output)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}.") from error
    sync_folder(output.parent)


def check_output(output: Path, overwrite: bool) -> None:
    """Raises `InputError` if something is at `output` that must be kept."""
    if not os.path.lexists(output):
        return
    if output.is_dir() and not output.is_symlink():
        if not any(output.iterdir()):
            return
        raise InputError(f"Folder {output} is not empty and was kept. Give the path of a new one.")
    if not overwrite:
        raise InputError(
            f"{output} exists and was kept. Give another path, or overwrite=True to replace it."
        )


def _create(output: Path, purpose: str) -> tuple[Path, BinaryIO]:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        # Names are limited to 255 bytes.
        mark = f"{secrets.token_hex(8)}.{purpose}"
        path = output.with_name(f".{output.name[:40]}.{mark}")
        try:
            file = os.fdopen(os.open(path, flags, 0o600), "w+b")
        except OSError as error:
            raise InputError(
                f"Nothing can be written to {output.parent}: {error.strerror}. Choose a folder "
                "that exists and that you may write to."
            ) from error
        # Another process may have taken the file for abandoned before it was locked.
        if _lock(file.fileno(), where_unknown=True) and path.exists():
            return path, file
        file.close()


def _is_abandoned(folder: Path, entry: str) -> bool:
    path = folder / entry.removesuffix(UNPACKED)
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        if entry.endswith(UNPACKED):  # its file went first
            _remove(path)
            return True
        return False
    except OSError:
        return False
    try:
        age = time.time() - os.fstat(descriptor).st_mtime
        if not _lock(descriptor, where_unknown=age > _ABANDONED_SECONDS):
            return False
        _remove(path)
        return True
    finally:
        os.close(descriptor)


def _lock(descriptor: int, where_unknown: bool) -> bool:
    """Whether the file is ours now; `where_unknown` on systems that do not say."""
    try:
        import fcntl
    except ImportError:  # Windows
        return where_unknown
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove(path: Path) -> None:
    folder = path.with_name(path.name + UNPACKED)
    for here, folders, _ in os.walk(folder):
        for name in folders:
            inner = os.path.join(here, name)
            if not os.path.islink(inner):
                with contextlib.suppress(OSError):
                    os.chmod(inner, 0o700)  # what was packed may be closed to its owner
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        path.unlink()
