"""A copy that nobody else can write to, so that what is verified is what is used."""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity.parity import parity_name
from keras_secure.integrity.signature_file import SIGNATURE_NAME, SIGNATURE_SUFFIX

_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
# A pipe put in the place of a file would otherwise keep us waiting for a writer.
_FLAGS |= getattr(os, "O_NONBLOCK", 0)


def signed_root(path: Path, signature: str | os.PathLike | None = None) -> tuple[Path, Path]:
    """Finds what a file was signed as part of.

    Args:
        path: A file or folder.
        signature: Its signature, if not at its usual place.

    Returns:
        The file or folder that was signed, and its signature file: the file itself if it has a
        signature of its own; else the nearest folder above that has one.
    """
    own = path.with_name(path.name + SIGNATURE_SUFFIX)
    if signature is not None:
        place = Path(os.path.abspath(signature))
        is_folders = place.name == SIGNATURE_NAME != own.name and place.parent in path.parents
        return (place.parent if is_folders else path), place
    if path.is_dir():
        return path, path / SIGNATURE_NAME
    if not os.path.lexists(own):
        for folder in path.parents:
            if os.path.lexists(folder / SIGNATURE_NAME):
                return folder, folder / SIGNATURE_NAME
    return path, own


@contextlib.contextmanager
def private_copy(root: Path, signature: Path | None) -> Iterator[tuple[Path, Path | None]]:
    """Gives a copy of a file or folder, and of its signature, in a folder of mode 0700.

    Names, modes, and symbolic links in a folder are kept. The copy is removed in the end.

    Args:
        root: What to copy.
        signature: Its signature; None, or one that is not there, for none.

    Yields:
        The copy, and the copy of the signature.

    Raises:
        IntegrityError: There is something that is neither file nor folder nor link.
        InputError: It cannot be read, or there is no room for it.
    """
    with tempfile.TemporaryDirectory(prefix="keras_secure.") as private:
        # The name of what was signed may be signed too, so the signature lies apart.
        place = Path(private, "signed", root.name)
        place.parent.mkdir()
        try:
            _copy(root.resolve(), place)
            parity = root.with_name(parity_name(root))
            if not root.is_dir() and parity.is_file():
                _copy(parity, place.with_name(parity.name))
            copied = None
            if signature is not None and root in signature.parents:
                copied = place / signature.relative_to(root)
            elif signature is not None:
                copied = place.with_name(place.name + SIGNATURE_SUFFIX)
                if signature.exists():
                    _copy(signature.resolve(), copied)
        except OSError as error:
            raise InputError(
                f"{root} cannot be copied to be verified and loaded: {error.strerror}. Give a file "
                "or folder that can be read, and room for a copy in the folder for temporary files."
            ) from error
        yield place, copied


def _copy(source: Path, target: Path) -> None:
    status = os.lstat(source)
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISDIR(status.st_mode):
        target.mkdir(mode=0o700)
        with os.scandir(source) as entries:
            for entry in entries:
                _copy(Path(entry.path), target / entry.name)
        os.chmod(target, stat.S_IMODE(status.st_mode) & 0o777)
    elif stat.S_ISREG(status.st_mode):
        with os.fdopen(os.open(source, _FLAGS), "rb") as reader, open(target, "xb") as writer:
            # What was looked at by name may have been exchanged before it was opened.
            if not stat.S_ISREG(os.fstat(reader.fileno()).st_mode):
                raise IntegrityError(f"{source} was exchanged for something that is no file.")
            shutil.copyfileobj(reader, writer, 2**20)
        os.chmod(target, stat.S_IMODE(status.st_mode) & 0o777)
    else:
        raise IntegrityError(
            f"{source} is a device, a pipe or a socket, which no model holds. Do not use it."
        )
