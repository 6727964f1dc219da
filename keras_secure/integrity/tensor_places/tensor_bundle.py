"""The index of TensorFlow's checkpoint format: which bytes of a data file hold which variable.

An index is a table of sorted strings as LevelDB writes it, whose values are `BundleEntryProto`
messages of TensorFlow's `tensor_bundle.proto`.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57
_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_SHARD, _OFFSET, _SIZE = 3, 4, 5


class Variable(NamedTuple):
    """A variable's place.

    Args:
        name: Its key, without TensorFlow's suffix.
        shard: Number of the data file.
        start: Offset of its first byte there.
        end: Offset behind its last.
    """

    name: str
    shard: int
    start: int
    end: int


def variables(index: bytes) -> list[Variable]:
    """Reads an index file.

    Args:
        index: Its bytes.

    Returns:
        The variables.

    Raises:
        ValueError: It is no index of this format, or a compressed one.
    """
    try:
        magic = struct.unpack_from("<Q", index, len(index) - 8)[0]
        if magic != _MAGIC:
            raise ValueError("The index does not end as a table does.")
        footer = index[-_FOOTER:]
        _, position = _varint(footer, 0)
        _, position = _varint(footer, position)
        block = _handle(footer, position)
        found = []
        for _, handle in _entries(index, block):
            for key, value in _entries(index, _handle(handle, 0)):
                # The empty key is the header.
                if key:
                    fields = dict(_fields(value))
                    start = fields.get(_OFFSET, 0)
                    name = key.decode("utf-8", "replace").removesuffix(_SUFFIX)
                    shard, size = fields.get(_SHARD, 0), fields.get(_SIZE, 0)
                    found.append(Variable(name, shard, start, start + size))
        return found
    except (IndexError, struct.error) as error:
        raise ValueError("The index ends too early.") from error


def _handle(data: bytes, position: int) -> tuple[int, int]:
    offset, position = _varint(data, position)
    size, _ = _varint(data, position)
    return offset, size


def _entries(index: bytes, handle: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    offset, size = handle
    if index[offset + size]:
        raise ValueError("The index is compressed.")
    block = index[offset : offset + size]
    end = len(block) - 4 * (1 + struct.unpack_from("<L", block, len(block) - 4)[0])
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        yield key, block[position : position + length]
        position += length


def _fields(message: bytes) -> Iterator[tuple[int, int]]:
    """Yields the fields of a message that are plain integers."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield tag >> 3, value
        elif kind == 2:
            size, position = _varint(message, position)
            position += size
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        else:
            raise ValueError("The index holds a message of another format.")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("The index holds a number of more than 64 bits.")
