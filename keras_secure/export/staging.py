"""Folders that appear whole or not at all."""

import contextlib
import os
import secrets
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from keras_secure.errors import InputError


@contextlib.contextmanager
def staged_folder(
    path: str | os.PathLike, overwrite: bool, is_ours: Callable[[Path], bool]
) -> Iterator[Path]:
    """Gives an empty folder beside `path` that takes its place when the block ends well.

    When the block fails or is interrupted, everything is as it was before. A second interruption
    does not stop the cleaning up, and a forked worker that ends takes nothing with it.

    Args:
        path: The folder to create; missing parents are created too.
        overwrite: Whether a folder that is there and has contents may be replaced.
        is_ours: Whether an existing folder is one that may be replaced at all, so that a mistyped
            path never costs somebody's files.

    Yields:
        The folder to write to.

    Raises:
        InputError: `path` is a file or a link, a non-empty folder without `overwrite`, a foreign
            folder, or cannot be written to.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as home:
    ...     with staged_folder(f"{home}/new", False, lambda folder: False) as staging:
    ...         _ = (staging / "file").write_text("whole")
    ...     os.listdir(f"{home}/new")
    ['file']
    """
    path = Path(os.path.abspath(path))
    check_target(path, overwrite, is_ours)
    created, owner = _make_parents(path), os.getpid()
    mark = secrets.token_hex(8)
    staging = path.with_name(f".{path.name}.{mark}.part")
    try:
        try:
            staging.mkdir()
        except OSError as error:
            raise InputError(
                f"Nothing can be written to {path.parent}: {error.strerror}. Choose a folder that "
                "you may write to."
            ) from error
        yield staging
        # Somebody may have filled the place meanwhile.
        check_target(path, overwrite, is_ours)
        _put_in_place(staging, path, path.with_name(f".{path.name}.{mark}.old"))
    except BaseException:
        if os.getpid() == owner:
            with _interruptions_ignored():
                shutil.rmtree(staging, ignore_errors=True)
                for parent in created:
                    with contextlib.suppress(OSError):
                        parent.rmdir()
        raise


def check_target(path: Path, overwrite: bool, is_ours: Callable[[Path], bool]) -> None:
    """Raises `InputError` unless a new folder may take the place of whatever is at `path`."""
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_dir():
        raise InputError(f"{path} is a file or a link and was kept. Give the path of a new folder.")
    try:
        occupied = any(path.iterdir())
    except OSError as error:
        raise InputError(f"Folder {path} cannot be read: {error.strerror}.") from error
    if occupied and not overwrite:
        raise InputError(
            f"Folder {path} is not empty and was kept. Give a new folder, or overwrite=True to "
            "replace the bundle in it."
        )
    if occupied and not is_ours(path):
        raise InputError(
            f"Folder {path} holds something other than a bundle and was kept, although "
            "overwrite=True was given. Empty it yourself or give a new folder."
        )


def _put_in_place(staging: Path, path: Path, aside: Path) -> None:
    if not path.exists():
        os.rename(staging, path)
        return
    os.rename(path, aside)
    try:
        os.rename(staging, path)
    except BaseException:
        os.rename(aside, path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _make_parents(path: Path) -> list[Path]:
    """Creates the missing parents of `path` and returns them, the innermost first."""
    missing = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        for parent in missing:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise InputError(f"Folder {path.parent} cannot be made: {error.strerror}.") from error
    return missing


@contextlib.contextmanager
def _interruptions_ignored() -> Iterator[None]:
    # Python delivers signals to the main thread only, and lets no other set handlers.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in numbers if number}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
