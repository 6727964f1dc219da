"""Output folders that appear complete or not at all."""

import contextlib
import secrets
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from keras_secure.errors import InputError
from keras_secure.export import staging


def check_output_folder(path) -> Path:
    """Refuses a place where output could not be written, before any work is done.

    Args:
        path: The folder to be made. It may exist if it is empty; missing parents are fine.

    Returns:
        The absolute path.

    Raises:
        InputError: If the folder has content, a file is in the way, or nothing can be made there.
    """
    # A link that points to itself cannot be resolved at all.
    try:
        folder = Path(path).resolve()
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(
                f"The output folder {path} is not empty; expected a new or empty one: choose "
                f"another name or remove it first."
            )
        if folder.exists() and not folder.is_dir():
            raise InputError(
                f"{path} is a file; expected the name of a folder to make: choose another name."
            )
        parent = _existing_parent(folder)
        if not parent.is_dir():
            raise InputError(
                f"{parent} is a file, so {path} cannot be made in it; expected a folder: choose "
                f"another place."
            )
        # Asking for permission lies to the superuser and on mounted disks; trying does not.
        probe = parent / f".{folder.name[:100]}.{secrets.token_hex(4)}.part"
        probe.mkdir()
        probe.rmdir()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"The output folder {path} cannot be made ({reason}); expected a place that can be "
            f"written: choose another with --output FOLDER."
        ) from error
    return folder


@contextlib.contextmanager
def staged_folder(path) -> Iterator[Path]:
    """Collects output beside its place and moves it there only when everything has succeeded.

    On any exception, and on SIGINT, SIGTERM and SIGHUP, what was written is removed. The signals
    that would end the process on the spot are turned into `SystemExit` meanwhile (in the main
    thread, where Python delivers signals).

    Args:
        path: The folder to be made, as for `check_output_folder`.

    Yields:
        A new empty folder on the same file system.

    Raises:
        InputError: If the place cannot be used, before or after the work.

    Example:

    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp()) / "result"
    >>> with staged_folder(place) as folder:
    ...     _ = (folder / "report.md").write_text("done")
    ...     place.exists()
    False
    >>> sorted(file.name for file in place.iterdir())
    ['report.md']
    """
    folder = check_output_folder(path)
    with _ending_signals_raise(), staging.staged_folder(folder, False, _is_never_ours) as stage:
        yield stage


def _is_never_ours(folder: Path) -> bool:
    return False


def _existing_parent(folder: Path) -> Path:
    return next(parent for parent in folder.parents if parent.exists())


@contextlib.contextmanager
def _ending_signals_raise() -> Iterator[None]:
    def end(number, frame):
        raise SystemExit(128 + number)

    changed = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            # A handler that somebody chose (nohup, a server) stays.
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                changed[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, previous in changed.items():
            signal.signal(number, previous)
