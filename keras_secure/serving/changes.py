"""Files that others may replace while they are in use."""

import os
import time
from pathlib import Path


class FileWatch:
    """Tells when a file is another one than at the last look, at most once in an interval.

    Args:
        path: The file.
        interval: Seconds between two looks.

    Example:

    >>> FileWatch(__file__, interval=0.0).changed()
    False
    """

    def __init__(self, path: str | os.PathLike, interval: float = 1.0):
        self._path = Path(path)
        self._interval = interval
        self._seen = self._look()
        self._next = time.monotonic() + interval

    def changed(self) -> bool:
        """Whether the file differs from what it was when this last said so."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + self._interval
        before, self._seen = self._seen, self._look()
        return before != self._seen

    def _look(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns
