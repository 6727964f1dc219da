"""Files that are read as a whole, since they must be small."""

import os
import stat
from pathlib import Path

from keras_secure.errors import InputError, IntegrityError

_MAX_SIGNED = 64 * 2**20
_MAX_SMALL = 2**20


def read_plain_file(path: Path) -> bytes:
    """Reads what stands in a bundle: a plain file of at most 64 MiB.

    Raises:
        InputError: It cannot be read.
        IntegrityError: It is a link, a folder or a special file, or too large.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise IntegrityError(
                f"{path} is not a plain file. Replace the link or special file by the real one."
            )
        with path.open("rb") as file:
            data = file.read(_MAX_SIGNED + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    if len(data) > _MAX_SIGNED:
        raise IntegrityError(f"{path} is larger than {_MAX_SIGNED} bytes, so it was not read.")
    return data


def read_small_file(path: str | os.PathLike) -> bytes:
    """Reads what a caller names, such as a trust file: at most 1 MiB.

    Raises:
        InputError: It cannot be read, or is larger.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_SMALL + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{os.fspath(path)} cannot be read: {reason}.") from error
    if len(data) > _MAX_SMALL:
        raise InputError(f"{os.fspath(path)} is larger than such a file may be (1 MiB).")
    return data
