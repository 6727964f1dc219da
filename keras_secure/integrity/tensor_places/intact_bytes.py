"""A damaged file as a stream that refuses to give what is damaged."""

import io
import os
from collections.abc import Sequence


class DamagedBytesError(OSError):
    """Something asked for bytes that are not the signed ones."""


class IntactBytes(io.RawIOBase):
    """Reads the part of a file that is as it was signed.

    Parsers of zip and HDF5 read no byte of unknown origin through it, so what somebody wrote over a
    file cannot mislead them.

    Args:
        path: The damaged file.
        damaged: Ranges `(start, end)` of its bytes that must not be read.
        start: Where in the file the stream begins.
        size: Its length.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        damaged: Sequence[tuple[int, int]],
        start: int,
        size: int,
    ):
        super().__init__()
        self.path, self.damaged, self.start, self.size = path, damaged, start, size
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  (closed by close)
        self._position = 0

    def part(self, start: int, size: int) -> "IntactBytes":
        """A stream over a piece of this one."""
        return IntactBytes(self.path, self.damaged, self.start + start, size)

    def hits(self, start: int, end: int) -> bool:
        """Whether a range of the stream touches damaged bytes."""
        start, end = start + self.start, end + self.start
        return any(start < stop and first < end for first, stop in self.damaged)

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to an offset from the start, the position or the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def readinto(self, buffer) -> int:
        """Reads into `buffer`.

        Raises:
            DamagedBytesError: Some of the bytes are damaged.
        """
        view = memoryview(buffer).cast("B")
        count = max(min(len(view), self.size - self._position), 0)
        if count and self.hits(self._position, self._position + count):
            raise DamagedBytesError(f"Bytes {self._position} and on are damaged.")
        self._file.seek(self.start + self._position)
        done = 0
        while done < count and (got := self._file.readinto(view[done:count])):
            done += got
        self._position += done
        return done

    def close(self) -> None:
        """Closes the file."""
        if not self.closed:
            self._file.close()
        super().close()
