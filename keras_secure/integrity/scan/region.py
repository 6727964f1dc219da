"""A stretch of a file that reads as a file of its own."""

import io
import os
from typing import IO


class Region(io.RawIOBase):
    """Read-only view of `size` bytes of `file` from `start` on.

    Args:
        file: A seekable binary file; it is not closed with the view.
        start: Offset of the first byte.
        size: Count of bytes.

    Example:

    >>> Region(io.BytesIO(b"0123456789"), 2, 5).read()
    b'23456'
    """

    def __init__(self, file: IO[bytes], start: int, size: int):
        super().__init__()
        self.file = file
        self.start = start
        self.size = size
        self._position = 0

    @classmethod
    def whole(cls, file: IO[bytes]) -> "Region":
        """The view of everything in `file`."""
        return cls(file, 0, file.seek(0, os.SEEK_END))

    def at(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset` on; fewer at the end."""
        self.seek(offset)
        return self.read(size)

    def within(self, start: int, size: int) -> "Region":
        """A view of part of this view."""
        start = min(max(start, 0), self.size)
        return Region(self.file, self.start + start, min(max(size, 0), self.size - start))

    def readable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Always true."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position, which never leaves the view."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def readinto(self, buffer) -> int:
        """Fills `buffer` as far as there are bytes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes, or all that are left."""
        left = max(0, self.size - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        self.file.seek(self.start + self._position)
        data = self.file.read(wanted)
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        """All bytes that are left."""
        return self.read()
