"""The variables of a SavedModel: an index, and the bytes that it points to."""

import struct
from collections.abc import Iterator
from pathlib import Path

from keras_secure.integrity.scan.collector import Collector
from keras_secure.integrity.scan.finite import count_nonfinite
from keras_secure.integrity.scan.place import Place, quoted
from keras_secure.integrity.scan.region import Region
from keras_secure.integrity.scan.saved_model_messages import MalformedMessage, parse_message

_MAGIC = 0xDB4775248B80FB57
_LARGEST_INDEX = 64 * 2**20
# TensorFlow's number of a type: how NumPy writes it, and the bytes of one value.
_TYPES = {
    1: ("<f4", 4),
    2: ("<f8", 8),
    3: (None, 4),
    4: (None, 1),
    5: (None, 2),
    6: (None, 1),
    8: ("<c8", 8),
    9: (None, 8),
    10: (None, 1),
    14: ("bfloat16", 2),
    17: (None, 2),
    18: ("<c16", 16),
    19: ("<f2", 2),
    22: (None, 4),
    23: (None, 8),
}


class _Malformed(Exception):
    pass


def inspect_checkpoint(folder: Path, name: str, collector: Collector) -> None:
    """Checks the index of a checkpoint, and that all values it points to are finite.

    Args:
        folder: The folder with `variables.index` and its shards.
        name: The index's path relative to what is scanned.
        collector: Takes the findings.
    """
    place = Place(name)
    shards: dict[int, Region | None] = {}
    used: dict[int, int] = {}
    files = []
    try:
        with (folder / "variables.index").open("rb") as file:
            index = file.read(_LARGEST_INDEX + 1)
        if len(index) > _LARGEST_INDEX:
            raise _Malformed("it is too large")
        pairs = dict(_table(index, collector))
        header = parse_message("BundleHeader", pairs.pop(b"", b""))
        count = max(1, header.num_shards)
        for key, value in pairs.items():
            collector.tick()
            inner = place.inside(quoted(key))
            entry = parse_message("BundleEntry", value)
            if not 0 <= entry.shard_id < min(count, 1000):
                collector.add("scan.weights.index", "It points to a file that is none.", inner)
                continue
            if entry.shard_id not in shards:
                path = folder / f"variables.data-{entry.shard_id:05d}-of-{count:05d}"
                if path.is_symlink() or not path.is_file():
                    shards[entry.shard_id] = None
                    collector.add(
                        "scan.savedmodel.incomplete", f"The file {path.name} is missing.", place
                    )
                else:
                    files.append(path.open("rb"))
                    shards[entry.shard_id] = Region.whole(files[-1])
            if (shard := shards[entry.shard_id]) is not None:
                used[entry.shard_id] = used.get(entry.shard_id, 0) + max(0, entry.size)
                _inspect_entry(entry, shard, inner, collector)
        for number, shard in shards.items():
            if shard is not None and used.get(number, 0) != shard.size:
                collector.add(
                    "scan.weights.index",
                    f"The variables have {used.get(number, 0)} bytes, the file that holds them "
                    f"{shard.size}.",
                    place,
                )
    except (_Malformed, MalformedMessage) as error:
        collector.add(
            "scan.weights.index", f"The index cannot be read: {quoted(str(error))}.", place
        )
    except OSError as error:
        collector.add(
            "scan.file.unreadable", f"The variables cannot be read: {quoted(str(error))}.", place
        )
    finally:
        for file in files:
            file.close()


def _inspect_entry(entry, shard: Region, place: Place, collector: Collector) -> None:
    if entry.slices:
        return
    if entry.offset < 0 or entry.size < 0 or entry.offset + entry.size > shard.size:
        collector.add("scan.weights.index", "It points outside the file.", place)
        return
    kind, width = _TYPES.get(entry.dtype, (None, 0))
    if width:
        values = 1
        for dimension in entry.shape.dim:
            values = min(values * max(0, dimension.size), 2**62)
        if values * width != entry.size:
            collector.add(
                "scan.weights.index",
                f"The shape needs {values * width} bytes; {entry.size} are stored.",
                place,
            )
            return
    if kind:
        bad = count_nonfinite(shard.within(entry.offset, entry.size), kind, collector)
        if bad:
            collector.add(
                "scan.weights.nonfinite", f"{bad} values are not finite.", place, count=bad
            )


def _table(data: bytes, collector: Collector) -> Iterator[tuple[bytes, bytes]]:
    """Pairs of a sorted-string table, the form of LevelDB, without compression."""
    if len(data) < 48 or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise _Malformed("it is no table")
    footer = data[-48:-8]
    _, position = _varint(footer, 0)
    _, position = _varint(footer, position)
    offset, position = _varint(footer, position)
    size, _ = _varint(footer, position)
    for _, handle in _block(data, offset, size):
        collector.tick()
        offset, position = _varint(handle, 0)
        size, _ = _varint(handle, position)
        yield from _block(data, offset, size)


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if offset + size + 5 > len(data) or size < 4:
        raise _Malformed("a block lies outside")
    if data[offset + size] != 0:
        raise _Malformed("a block is compressed")
    block = data[offset : offset + size]
    restarts = struct.unpack("<L", block[-4:])[0]
    end = size - 4 - 4 * restarts
    if end < 0:
        raise _Malformed("a block has no entries")
    key, position = b"", 0
    while position < end:
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or position + unshared + length > end:
            raise _Malformed("an entry lies outside its block")
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        yield key, block[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise _Malformed("a number does not end")
