"""Compressed bytes, unfolded a block at a time by the methods that Python's own reader knows."""

import bz2
import lzma
import struct
import zlib
from collections.abc import Iterator

from keras_secure.integrity.scan.region import Region

BLOCK = 2**20
DEFLATED, BZIP2, LZMA = 8, 12, 14
METHODS = frozenset({DEFLATED, BZIP2, LZMA})


class MalformedStream(Exception):
    """The bytes are no whole stream of that method."""


def unfold(stored: Region, method: int) -> Iterator[bytes]:
    """Decompresses the data of a zip entry.

    Args:
        stored: The compressed bytes.
        method: A member of `METHODS`.

    Yields:
        Blocks of at most `BLOCK` bytes.

    Raises:
        MalformedStream: The data are damaged or cut off, or others follow them.

    Example:

    >>> import io
    >>> data = io.BytesIO(bz2.compress(b"abc"))
    >>> list(unfold(Region.whole(data), BZIP2))
    [b'abc']
    """
    try:
        stored.seek(0)
        if method == DEFLATED:
            yield from _inflate(stored)
        else:
            reader = bz2.BZ2Decompressor() if method == BZIP2 else _lzma_reader(stored)
            yield from _decompress(stored, reader)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        raise MalformedStream(str(error)) from error


def _inflate(stored: Region) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-15)
    pending = b""
    while not inflater.eof:
        block = pending or stored.read(BLOCK)
        if not block:
            raise MalformedStream("they are cut off")
        yield inflater.decompress(block, BLOCK)
        pending = inflater.unconsumed_tail
    if inflater.unused_data or stored.read(1):
        raise MalformedStream("others follow them")


def _decompress(
    stored: Region, reader: bz2.BZ2Decompressor | lzma.LZMADecompressor
) -> Iterator[bytes]:
    while not reader.eof:
        block = stored.read(BLOCK) if reader.needs_input else b""
        if reader.needs_input and not block:
            raise MalformedStream("they are cut off")
        yield reader.decompress(block, BLOCK)
    if reader.unused_data or stored.read(1):
        raise MalformedStream("others follow them")


def _lzma_reader(stored: Region) -> lzma.LZMADecompressor:
    # Two bytes of version, the size of the properties, and the properties stand first.
    head = stored.read(4)
    if len(head) < 4 or struct.unpack("<H", head[2:])[0] != 5:
        raise MalformedStream("they have no properties")
    bits, size = struct.unpack("<BL", stored.read(5).ljust(5, b"\xff"))
    if bits >= 225 or size > 64 * 2**20:
        raise MalformedStream("their properties are none")
    literal, bits = bits % 9, bits // 9
    settings = {
        "id": lzma.FILTER_LZMA1,
        "dict_size": size,
        "lc": literal,
        "lp": bits % 5,
        "pb": bits // 5,
    }
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[settings])
