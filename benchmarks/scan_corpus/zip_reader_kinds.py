"""Archives whose ends, names or extra fields one reader takes in one way and another in another."""

import struct
import zlib
from dataclasses import replace

from scan_corpus.archive_kinds import READERS, clean_entries, harmful_config
from scan_corpus.keras_archives import metadata, target, weights, zipped
from scan_corpus.kinds import kind

END = b"PK\x05\x06"


def parts(held):
    """An archive without its end record, and the count, size and offset that this one gives."""
    at = held.rindex(END)
    return held[:at], struct.unpack_from("<H2L", held, at + 10)


def wide_end(count, size, offset):
    return b"PK\x06\x06" + struct.pack("<QHHLL4Q", 44, 45, 45, 0, 0, count, count, size, offset)


def narrow_end(count, size, offset):
    return END + struct.pack("<4H2LH", 0, 0, count, count, size, offset, 0)


def harmful_archive(variant):
    config = ("config.json", harmful_config(variant))
    files = [("metadata.json", metadata()), config, ("model.weights.h5", weights())]
    return zipped(files, variant)


@kind("zip-two-end-records", "archive", "code", READERS, "", ("prefix", "comment"))
def _two_ends(folder, variant):
    """The pointer to the 64-bit end record leads to another one than the one that stands there.

    Python before 3.11.14 (3.12.12, 3.13.10) reads the record before the pointer, others the one
    that it points to.
    """
    clean, harmful = zipped(clean_entries(variant), variant), harmful_archive(variant)
    shown, (count, size, offset) = parts(clean)
    first = shown + wide_end(count, size, offset)
    hidden, (count, size, offset) = parts(harmful)
    held = first + hidden + wide_end(count, size, offset)
    held += b"PK\x06\x07" + struct.pack("<LQL", 0, len(shown), 1)
    path = target(folder, variant, ".keras")
    path.write_bytes(held + narrow_end(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF))
    return path


@kind("zip-wide-end-beside-narrow", "archive", "code", READERS, "", ("prefix", "comment"))
def _wide_beside_narrow(folder, variant):
    """The end record is complete, and a 64-bit one before it lists something else.

    Python takes the latter, and who asks for it only where numbers are too large, the former.
    """
    harmful, (count, size, offset) = parts(harmful_archive(variant))
    held = zipped(clean_entries(variant), replace(variant, prefix=harmful))
    shown, (own_count, own_size, own_offset) = parts(held)
    hidden = harmful[offset : offset + size]
    record = len(shown) + len(hidden)
    held = shown + hidden + wide_end(count, size, len(shown))
    held += b"PK\x06\x07" + struct.pack("<LQL", 0, record, 1)
    path = target(folder, variant, ".keras")
    path.write_bytes(held + narrow_end(own_count, own_size, own_offset))
    return path


@kind("zip-second-name", "archive", "code", "in Python from 3.13 on; " + READERS, "", ("prefix",))
def _second_name(folder, variant):
    """An extra field in the directory gives an entry the name of the config."""
    decoy, name = "assets/notes.txt", b"config.json"
    held = zipped([*clean_entries(variant), (decoy, harmful_config(variant))], variant)
    body = struct.pack("<BL", 1, zlib.crc32(decoy.encode())) + name
    extra = struct.pack("<HH", 0x7075, len(body)) + body
    held = bytearray(held)
    at = held.rindex(decoy.encode())
    header, end = at - 46, held.rindex(END)
    assert held[header : header + 4] == b"PK\x01\x02"
    struct.pack_into("<H", held, header + 30, len(extra))
    size = struct.unpack_from("<L", held, end + 12)[0]
    struct.pack_into("<L", held, end + 12, size + len(extra))
    held[at + len(decoy) : at + len(decoy)] = extra
    path = target(folder, variant, ".keras")
    path.write_bytes(held)
    return path


@kind("zip-hidden-in-descriptor", "archive", "archive", "carries bytes that belong to no entry")
def _descriptor(folder, variant):
    """Sizes behind an entry that has given them before: sixteen bytes for whom they are meant."""
    from scan_corpus.archive_kinds import central_entries

    held = bytearray(zipped(clean_entries(variant), replace(variant, prefix=b"", comment=False)))
    last = central_entries(held)[-1]
    start, end = central_entries(held)[0], held.rindex(END)
    assert last >= start
    held[start:start] = variant.pick((b"\x00secret-message!", b"\x7fELF" + bytes(12)), "data")
    struct.pack_into("<L", held, end + 16 + 16, start + 16)
    path = target(folder, variant, ".keras")
    path.write_bytes(held)
    return path
