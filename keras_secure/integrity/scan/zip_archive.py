"""A zip file's entries, read strictly: what two readers could take differently is reported."""

import stat
import struct
import tempfile
import unicodedata
import zlib
from collections import Counter
from typing import IO

from keras_secure.integrity.scan.collector import Collector
from keras_secure.integrity.scan.names import name_problem
from keras_secure.integrity.scan.place import Place, quoted
from keras_secure.integrity.scan.region import Region
from keras_secure.integrity.scan.unfolding import DEFLATED, METHODS, MalformedStream, unfold
from keras_secure.integrity.scan.zip_directory import Entry, read_directory, wide_sizes

STORED = 0
_IN_MEMORY = 32 * 2**20
_BLOCK = 2**20


class ZipArchive:
    """The entries of a zip file.

    Args:
        data: The file.
        place: Where it stands.
        collector: Takes the findings.

    Raises:
        MalformedArchive: There is no directory of entries that can be read.
    """

    def __init__(self, data: Region, place: Place, collector: Collector):
        self.data = data
        self.place = place
        self.collector = collector
        self._starts: dict[int, int] = {}
        self._refused: set[int] = set()
        directory = read_directory(data, place, collector)
        self.entries = directory.entries
        self._before, self._directory_start = directory.before, directory.start
        self._check_names()
        self._check_layout()

    def open(self, entry: Entry) -> Region | None:
        """The contents of an entry, unfolded within the limits; None where there are none."""
        start = self._starts.get(entry.header)
        if start is None or entry.flags & 1 or entry.header in self._refused:
            return None
        place = self.place.inside(entry.name)
        stored = self.data.within(start, entry.stored)
        if entry.method == STORED:
            if entry.size != entry.stored:
                self.collector.add(
                    "scan.archive.mismatch",
                    f"The entry is not compressed, has {entry.stored} bytes and declares "
                    f"{entry.size}.",
                    place,
                )
            self._check_crc(stored, entry, place)
            return stored
        return self._unfold(stored, entry, place) if entry.method in METHODS else None

    def _unfold(self, stored: Region, entry: Entry, place: Place) -> Region | None:
        limits = self.collector.limits
        # Not closed here: the caller reads from it, and it has no name to leave behind.
        file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        size = crc = 0
        try:
            for data in unfold(stored, entry.method):
                self.collector.tick()
                size += len(data)
                crc = zlib.crc32(data, crc)
                self.collector.unfolded += len(data)
                folded = size > limits.ratio * entry.stored and size > limits.unfolded_freely
                if folded or self.collector.unfolded > limits.unfolded:
                    self.collector.add(
                        "scan.archive.bomb",
                        f"{entry.stored} stored bytes unfold into more than {size}.",
                        place,
                        stored=entry.stored,
                        unfolded=size,
                    )
                    return None
                file.write(data)
                if size > entry.size:
                    break
        except MalformedStream as error:
            self.collector.add(
                "scan.archive.malformed", f"The entry's bytes cannot be unfolded: {error}.", place
            )
        if size != entry.size or crc != entry.crc:
            self.collector.add(
                "scan.archive.mismatch",
                f"The entry declares {entry.size} bytes and unfolds into {size} or more, or its "
                "checksum differs.",
                place,
            )
        return Region(file, 0, size)

    def _check_crc(self, stored: Region, entry: Entry, place: Place) -> None:
        crc = 0
        stored.seek(0)
        while block := stored.read(_BLOCK):
            self.collector.tick()
            crc = zlib.crc32(block, crc)
        if crc != entry.crc:
            self.collector.add(
                "scan.archive.mismatch", "The checksum of the entry is another one.", place
            )

    def _check_names(self) -> None:
        ratio = self.collector.limits.ratio
        # Small ones add up.
        total = sum(entry.size for entry in self.entries if entry.size > ratio * entry.stored)
        for entry in self.entries:
            place = self.place.inside(entry.name)
            if problem := name_problem(entry.name):
                self.collector.add("scan.archive.traversal", f"The entry's name {problem}.", place)
            kind = stat.S_IFMT(entry.mode)
            if kind and kind not in (stat.S_IFREG, stat.S_IFDIR):
                what = "a symbolic link" if kind == stat.S_IFLNK else "a special file"
                self.collector.add("scan.archive.symlink", f"The entry is {what}.", place)
            if entry.flags & 0x2041:
                self.collector.add("scan.archive.encrypted", "The entry is encrypted.", place)
            if entry.method not in (STORED, DEFLATED):
                self.collector.add(
                    "scan.archive.compression",
                    f"The entry is compressed by method {entry.method}, which Keras does not use.",
                    place,
                    method=entry.method,
                )
            if entry.size > ratio * entry.stored and (
                total > self.collector.limits.unfolded_freely
            ):
                self._refused.add(entry.header)
                self.collector.add(
                    "scan.archive.bomb",
                    f"The entry stores {entry.stored} bytes and declares {entry.size}.",
                    place,
                    stored=entry.stored,
                    declared=entry.size,
                )
        names = Counter(_folded(entry.name) for entry in self.entries)
        for entry in self.entries:
            if names[_folded(entry.name)] > 1:
                self.collector.add(
                    "scan.archive.duplicate",
                    f"{names[_folded(entry.name)]} entries are named {quoted(entry.name)!r}, or "
                    "so to a file system that ignores case or the form of letters.",
                    self.place.inside(entry.name),
                )

    def _check_layout(self) -> None:
        expected = self._before
        before: Entry | None = None
        for entry in sorted(self.entries, key=lambda entry: entry.header):
            self.collector.tick()
            place = self.place.inside(entry.name)
            header = self.data.at(entry.header, 30)
            if len(header) < 30 or header[:4] != b"PK\x03\x04":
                self.collector.add(
                    "scan.archive.malformed", "The entry has no header of its own.", place
                )
                continue
            fields = struct.unpack("<4s5H3L2H", header)
            flags, method, crc, stored, size, name_size, extra_size = (*fields[2:4], *fields[6:])
            names = self.data.at(entry.header + 30, name_size + extra_size)
            raw, extra = names[:name_size], names[name_size:]
            start = entry.header + 30 + name_size + extra_size
            size, stored, _ = wide_sizes(extra, size, stored, 0)
            differing = [
                what
                for what, here, there in (
                    ("name", raw, entry.raw),
                    ("method", method, entry.method),
                    ("flags", flags & 0x2849, entry.flags & 0x2849),
                )
                if here != there
            ]
            if not flags & 8:
                differing += [
                    what
                    for what, here, there in (
                        ("checksum", crc, entry.crc),
                        ("stored size", stored, entry.stored),
                        ("size", size, entry.size),
                    )
                    if here != there
                ]
            if differing:
                self.collector.add(
                    "scan.archive.mismatch",
                    f"The entry's own header gives another {' and '.join(differing)} than the "
                    "directory.",
                    place,
                    header=quoted(raw),
                )
            end = start + entry.stored
            if entry.header < expected or end > self._directory_start:
                self._refused.add(entry.header)
                self.collector.add(
                    "scan.archive.overlap", "The entry shares bytes with another one.", place
                )
            elif entry.header > expected and not self._is_descriptor(
                before, expected, entry.header
            ):
                self._report_gap(entry.header - expected)
            expected, before = max(expected, end), entry
            if end <= self.data.size:
                self._starts[entry.header] = start
        gap = self._directory_start - expected
        if gap > 0 and not self._is_descriptor(before, expected, self._directory_start):
            self._report_gap(gap)

    def _is_descriptor(self, entry: Entry | None, start: int, end: int) -> bool:
        # Written behind an entry whose sizes were unknown when its header was.
        if entry is None or not entry.flags & 8 or end - start not in (12, 16, 20, 24):
            return False
        data = self.data.at(start, end - start)
        data = data.removeprefix(b"PK\x07\x08") if len(data) in (16, 24) else data
        form = {12: "<3L", 20: "<L2Q"}.get(len(data))
        told = (entry.crc, entry.stored, entry.size)
        return form is not None and struct.unpack(form, data) == told

    def _report_gap(self, size: int) -> None:
        self.collector.add(
            "scan.archive.hidden",
            f"{size} bytes stand between the entries and belong to none.",
            self.place,
            bytes=size,
        )


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name.replace("\\", "/")).casefold().rstrip("/")
