"""The directory at a zip file's end, read where Python's reader reads it and compared with others.

A zip file may have two end records, of 32 and of 64 bits, and names and sizes may stand in extra
fields too. Readers differ in which they take, so all of them must say the same.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from keras_secure.integrity.scan.collector import Collector
from keras_secure.integrity.scan.place import Place
from keras_secure.integrity.scan.region import Region

_END, _END_64, _LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_ZIP64, _UNICODE_NAME = 1, 0x7075
_SHORT, _LONG = 0xFFFF, 0xFFFFFFFF


@dataclass(frozen=True)
class Entry:
    """One entry, as the central directory describes it.

    Args:
        name: Its name, decoded.
        method: How it is compressed.
        flags: General-purpose bits.
        crc: CRC-32 of its contents.
        stored: Compressed bytes.
        size: Uncompressed bytes, as declared.
        header: Offset of its local header.
        mode: Unix mode, 0 where the archive gives none.
        raw: The name's bytes.
    """

    name: str
    method: int
    flags: int
    crc: int
    stored: int
    size: int
    header: int
    mode: int
    raw: bytes

    @property
    def is_folder(self) -> bool:
        """Whether the entry names a folder."""
        return self.name.endswith("/")


class MalformedArchive(Exception):
    """The bytes are no zip file that can be read."""


@dataclass(frozen=True)
class Directory:
    """What a zip file lists.

    Args:
        entries: In the order of the directory.
        start: Offset of the directory, behind the last entry's data.
        before: Bytes that stand before the archive.
    """

    entries: list[Entry]
    start: int
    before: int


def read_directory(data: Region, place: Place, collector: Collector) -> Directory:
    """Reads the end of a zip file and the directory before it.

    Args:
        data: The file.
        place: Where it stands.
        collector: Takes the findings.

    Returns:
        What it lists.

    Raises:
        MalformedArchive: There is no directory that can be read.
    """
    tail_size = min(data.size, 65_557)
    tail = data.at(data.size - tail_size, tail_size)
    position = tail.rfind(_END)
    if position < 0 or position + 22 > len(tail):
        raise MalformedArchive("it has no end record")
    end = data.size - tail_size + position
    _, disk, start_disk, here, count, size, offset, comment = struct.unpack(
        "<4s4H2LH", tail[position : position + 22]
    )
    trailing = data.size - end - 22
    if comment or trailing:
        collector.add(
            "scan.archive.hidden",
            f"{trailing} bytes stand behind the archive's end record.",
            place,
            bytes=trailing,
        )
    short = (here, count, size, offset)
    wide = _wide_end(data, end, short, place, collector)
    directory_end = end if wide is None else end - 20 - 56
    here, count, size, offset = short if wide is None else wide
    if disk not in (0, _SHORT) or start_disk not in (0, _SHORT) or here != count:
        collector.add("scan.archive.mismatch", "The archive claims to span several disks.", place)
    if count > collector.limits.files:
        collector.add("scan.limits.files", f"The archive has {count} entries.", place, count=count)
        raise MalformedArchive("it has too many entries")
    before = directory_end - size - offset
    if before < 0 or size > data.size:
        raise MalformedArchive("its directory does not fit into it")
    if before:
        collector.add(
            "scan.archive.hidden",
            f"{before} bytes stand before the archive.",
            place,
            bytes=before,
        )
    listed = data.at(before + offset, size)
    return Directory(_entries(listed, count, before, place, collector), before + offset, before)


def _wide_end(
    data: Region, end: int, short: tuple[int, ...], place: Place, collector: Collector
) -> tuple[int, int, int, int] | None:
    """The four numbers of the 64-bit end record that stands before the other one, if one does."""
    locator = data.at(end - 20, 20) if end >= 20 else b""
    if locator[:4] != _LOCATOR:
        return None
    # Python takes the record that stands right before its locator, others the one it points to.
    record = data.at(end - 76, 56) if end >= 76 else b""
    if record[:4] != _END_64 or len(record) < 56:
        raise MalformedArchive("its 64-bit end record is not before the other one")
    disk, pointed, disks = struct.unpack("<LQL", locator[4:])
    length, _, _, own_disk, start_disk = struct.unpack("<QHHLL", record[4:24])
    wide = struct.unpack("<4Q", record[24:56])
    unset = (_SHORT, _SHORT, _LONG, _LONG)
    differing = any(
        narrow not in (full, none) for narrow, full, none in zip(short, wide, unset, strict=True)
    )
    if differing or pointed != end - 76 or length != 44 or disk or disks > 1:
        collector.add(
            "scan.archive.mismatch",
            "The archive has two end records that do not agree; readers differ in which they take.",
            place,
            pointed=pointed,
            stands=end - 76,
        )
    if own_disk or start_disk:
        collector.add("scan.archive.mismatch", "The archive claims to span several disks.", place)
    return wide


def _entries(
    directory: bytes, count: int, before: int, place: Place, collector: Collector
) -> list[Entry]:
    entries: list[Entry] = []
    position = 0
    while position + 46 <= len(directory) and len(entries) <= collector.limits.files:
        collector.tick()
        fields = struct.unpack("<4s4B4HL2L5H2L", directory[position : position + 46])
        if fields[0] != b"PK\x01\x02":
            raise MalformedArchive("an entry of its directory is none")
        system, flags, method, crc = fields[2], fields[5], fields[6], fields[9]
        stored, size, name_size, extra_size, comment_size = fields[10:15]
        attributes, header = fields[17], fields[18]
        position += 46
        raw = directory[position : position + name_size]
        extra = directory[position + name_size : position + name_size + extra_size]
        position += name_size + extra_size + comment_size
        size, stored, header = wide_sizes(extra, size, stored, header)
        name = raw.decode("utf-8", "surrogateescape") if flags & 0x800 else raw.decode("cp437")
        mode = attributes >> 16 if system == 3 else 0
        if any(tag == _UNICODE_NAME for tag, _ in _fields(extra)):
            collector.add(
                "scan.archive.mismatch",
                "The entry has a second name, which some readers take for its name.",
                place.inside(name),
            )
        entries.append(Entry(name, method, flags, crc, stored, size, header + before, mode, raw))
    if len(entries) != count or position != len(directory):
        collector.add(
            "scan.archive.mismatch",
            f"The archive announces {count} entries and lists {len(entries)}.",
            place,
        )
    return entries


def wide_sizes(extra: bytes, size: int, stored: int, header: int) -> tuple[int, int, int]:
    """Sizes of 64 bits, where those of 32 say that they are given in the extra field.

    Args:
        extra: The extra field of an entry.
        size: Uncompressed bytes, as the 32-bit field gives them.
        stored: Compressed bytes, in the same way.
        header: Offset of the local header, in the same way.

    Returns:
        The three, with those of the extra field in their places.
    """
    for tag, body in _fields(extra):
        if tag != _ZIP64:
            continue
        values = [size, stored, header]
        for i, value in enumerate(values):
            if value == _LONG and len(body) >= 8:
                values[i] = struct.unpack("<Q", body[:8])[0]
                body = body[8:]
        size, stored, header = values
    return size, stored, header


def _fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + 4 <= len(extra):
        tag, length = struct.unpack("<HH", extra[position : position + 4])
        yield tag, extra[position + 4 : position + 4 + length]
        position += 4 + length
