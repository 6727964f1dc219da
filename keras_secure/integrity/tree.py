"""What lies in a folder, or at a file, before any byte of it is read."""

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from keras_secure.errors import InputError

WHOLE = "."
"""The name of a single signed file, as OpenSSF model-signing has it."""


@dataclass(frozen=True)
class Tree:
    """The names below a root, each by its path with `/` between its parts.

    Args:
        root: The folder, or the file, which then stands in `files` under the name `WHOLE`.
        files: Size and permission bits of the plain files; no bits on Windows, which has none.
        folders: Permission bits of the folders below the root.
        links: Targets of the symbolic links, as they are written.
        special: Devices, pipes and sockets.
    """

    root: Path
    files: dict[str, tuple[int, int | None]]
    folders: dict[str, int | None]
    links: dict[str, str]
    special: tuple[str, ...]

    def location(self, path: str) -> Path:
        """Where a file of the tree is."""
        return location(self.root, path, WHOLE in self.files)


def location(root: Path, path: str, is_file: bool) -> Path:
    """Where a signed file is: below a folder; or the root itself, or beside it, for a file.

    Example:

    >>> location(Path("models/a.keras"), "a.keras.parity", True).as_posix()
    'models/a.keras.parity'
    """
    if path == WHOLE:
        return root
    return (root.parent if is_file else root) / path


def survey(
    root: Path, skip: Collection[str] = frozenset(), beside: Collection[str] = frozenset()
) -> Tree:
    """Lists all that is below a folder, links unfollowed; or a file and named files beside it.

    Args:
        root: The folder or the file.
        skip: Paths below the root to leave out.
        beside: For a file: names in its folder that belong to it.

    Returns:
        The `Tree`, in the order of its names.

    Raises:
        InputError: There is nothing at `root`, or something cannot be read.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a").write_bytes(b"123")
    ...     survey(Path(folder)).files["a"][0]
    3
    """
    try:
        # The root itself may be a link: whoever names it means what it leads to.
        status = root.stat()
    except (OSError, ValueError) as error:
        raise _unreadable(root, error) from error
    tree = Tree(root, {}, {}, {}, ())
    if stat.S_ISDIR(status.st_mode):
        return _survey_folder(tree, skip)
    special = [] if _note(tree, WHOLE, root.resolve(), status) else [WHOLE]
    for name in sorted(beside):
        path = location(root, name, True)
        if os.path.lexists(path) and not _note(tree, name, path, path.lstat()):
            special.append(name)
    return Tree(root, tree.files, tree.folders, tree.links, tuple(special))


def _survey_folder(tree: Tree, skip: Collection[str]) -> Tree:
    special, pending = [], [("", os.fspath(tree.root))]
    while pending:
        prefix, here = pending.pop()
        try:
            with os.scandir(here) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
            for entry in entries:
                path = prefix + entry.name
                if path in skip:
                    continue
                if not _note(tree, path, Path(entry.path), entry.stat(follow_symlinks=False)):
                    special.append(path)
                elif path in tree.folders:
                    pending.append((path + "/", entry.path))
        except OSError as error:
            raise _unreadable(here, error) from error
    return Tree(
        tree.root,
        dict(sorted(tree.files.items())),
        dict(sorted(tree.folders.items())),
        dict(sorted(tree.links.items())),
        tuple(sorted(special)),
    )


def _note(tree: Tree, name: str, path: Path, status: os.stat_result) -> bool:
    """Enters what has a place in a tree; False for what has none."""
    mode = None if os.name == "nt" else stat.S_IMODE(status.st_mode)
    if stat.S_ISDIR(status.st_mode):
        tree.folders[name] = mode
    elif stat.S_ISREG(status.st_mode):
        tree.files[name] = (status.st_size, mode)
    elif stat.S_ISLNK(status.st_mode):
        tree.links[name] = os.readlink(path)
    else:
        return False
    return True


def _unreadable(path: str | os.PathLike, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or error
    return InputError(f"{os.fspath(path)} cannot be read: {reason}. Check name and permissions.")
