"""Entries of a zip file: by its directory, or one behind the other where the directory is lost."""

import contextlib
import struct
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

from keras_secure.integrity.tensor_places.intact_bytes import DamagedBytesError, IntactBytes

_LOCAL = struct.Struct("<4s5H3L2H")
_ZIP64 = 0xFFFFFFFF


class Entry(NamedTuple):
    """One file in an archive.

    Args:
        name: Its name.
        head: Offset of its header.
        start: Offset of its bytes.
        end: Offset behind them.
        stored: Whether the bytes stand there as they are.
    """

    name: str
    head: int
    start: int
    end: int
    stored: bool


def entries(stream: IntactBytes) -> tuple[list[Entry], bool]:
    """Lists the entries of an archive.

    Args:
        stream: The archive.

    Returns:
        The entries, and whether these are certainly all.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            infos = archive.infolist()
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError):
        return list(_by_local_headers(stream)), False
    found = []
    for info in infos:
        start = info.header_offset + 30 + len(info.filename.encode())
        # Where the entry's own head is lost, so is the entry, wherever it starts.
        with contextlib.suppress(DamagedBytesError, _EndError):
            start = _local_header(stream, info.header_offset).start
        stored = info.compress_type == zipfile.ZIP_STORED
        found.append(
            Entry(info.filename, info.header_offset, start, start + info.compress_size, stored)
        )
    return found, True


class _EndError(Exception):
    pass


def _by_local_headers(stream: IntactBytes) -> Iterator[Entry]:
    offset = 0
    while True:
        try:
            entry = _local_header(stream, offset)
        except (OSError, _EndError):
            return
        yield entry
        offset = entry.end


def _local_header(stream: IntactBytes, offset: int) -> Entry:
    head = _read(stream, offset, _LOCAL.size)
    magic, _, flags, method, _, _, _, packed, unpacked, name_size, extra_size = _LOCAL.unpack(head)
    if magic != b"PK\x03\x04":
        raise _EndError
    names = _read(stream, offset + _LOCAL.size, name_size + extra_size)
    name, extra = names[:name_size].decode("utf-8", "replace"), names[name_size:]
    if packed == _ZIP64:
        packed = _long_size(extra, unpacked == _ZIP64)
    if flags & 8 and not packed:
        # The size stands behind the bytes, where only the directory finds it.
        raise _EndError
    start = offset + _LOCAL.size + name_size + extra_size
    return Entry(name, offset, start, start + packed, method == zipfile.ZIP_STORED)


def _long_size(extra: bytes, behind_unpacked: bool) -> int:
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<2H", extra)
        field = extra[4 : 4 + size]
        if kind == 1 and len(field) >= 8 * (1 + behind_unpacked):
            return struct.unpack_from("<Q", field, 8 * behind_unpacked)[0]
        extra = extra[4 + size :]
    raise _EndError


def _read(stream: IntactBytes, offset: int, size: int) -> bytes:
    stream.seek(offset)
    data = stream.read(size)
    if len(data) < size:
        raise _EndError
    return data
