"""Folders, links and permission bits put back as they were signed."""

import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from keras_secure.integrity.statement import Statement
from keras_secure.integrity.tree import WHOLE, location


def obstacle(root: Path, statement: Statement) -> str:
    """Says what stands where signed things belong and cannot be written over; empty if nothing.

    A link in the place of a folder is one: whoever wrote through it would write elsewhere.
    """
    for name in statement.folders:
        mode = _mode(root / name)
        if mode is not None and not stat.S_ISDIR(mode):
            return f"{name!r} was signed as a folder, and is a file or a link; remove it"
    for name in [*statement.files, *statement.links]:
        mode = _mode(location(root, name, WHOLE in statement.files))
        if mode is not None and stat.S_ISDIR(mode):
            return f"{name!r} was signed as a file or a link, and is a folder; remove it"
    return ""


def misplaced(root: Path, statement: Statement) -> list[str]:
    """Names the folders and links that are missing or other, and what has other permission bits."""
    return [name for name, _ in _repairs(root, statement)]


def restore_structure(root: Path, statement: Statement) -> list[str]:
    """Makes missing folders and links, and sets permission bits; contents are not looked at.

    Args:
        root: The signed folder or file.
        statement: What was signed.

    Returns:
        The names of what was changed.

    Raises:
        OSError: Something cannot be written.
    """
    done = []
    for name, repair in _repairs(root, statement):
        repair()
        done.append(name)
    return done


def _repairs(root: Path, statement: Statement) -> Iterator[tuple[str, Callable[[], None]]]:
    for name in sorted(statement.folders):
        if not (root / name).is_dir():
            yield name, partial(os.makedirs, root / name)
    for name, target in statement.links.items():
        place = root / name
        if not place.is_symlink() or os.readlink(place) != target:
            yield name, partial(_link, place, target)
    modes = [(name, record.mode) for name, record in statement.files.items()]
    # The innermost first: what is in a folder cannot be reached when its own bits forbid that.
    modes += sorted(statement.folders.items(), reverse=True)
    for name, mode in modes:
        place = location(root, name, WHOLE in statement.files)
        found = _mode(place)
        if mode is None or os.name == "nt" or found is None or stat.S_ISLNK(found):
            continue
        if stat.S_IMODE(found) != mode:
            yield name, partial(os.chmod, place, mode)


def _link(place: Path, target: str) -> None:
    temporary = place.with_name(f".{place.name}.{secrets.token_hex(8)}.repair")
    try:
        os.symlink(target, temporary)
        os.replace(temporary, place)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _mode(path: Path) -> int | None:
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
