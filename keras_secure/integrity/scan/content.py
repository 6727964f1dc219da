"""What a file is, told from its bytes and never from its name."""

import re

from keras_secure.integrity.scan.region import Region

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
HEAD = 4096

_MAGICS = (
    ("npy", b"\x93NUMPY"),
    ("executable", b"\x7fELF"),
    ("executable", b"MZ"),
    ("executable", b"\xfe\xed\xfa\xce"),
    ("executable", b"\xfe\xed\xfa\xcf"),
    ("executable", b"\xce\xfa\xed\xfe"),
    ("executable", b"\xcf\xfa\xed\xfe"),
    ("executable", b"\xca\xfe\xba\xbe"),
    ("executable", b"\x00asm"),
    ("archive", b"\x1f\x8b"),
    ("archive", b"BZh"),
    ("archive", b"\xfd7zXZ\x00"),
    ("archive", b"\x28\xb5\x2f\xfd"),
    ("archive", b"7z\xbc\xaf\x27\x1c"),
    ("archive", b"Rar!\x1a\x07"),
    ("archive", b"\x04\x22\x4d\x18"),
    ("archive", b"\x89LZO\x00\r\n\x1a\n"),
    ("archive", b"!<arch>\n"),
    ("script", b"#!"),
    ("gguf", b"GGUF"),
    ("rds", b"RDX"),
)
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_BYTECODE = re.compile(rb"..\r\n[\x00-\x03]\x00\x00\x00", re.DOTALL)
_SOURCE = re.compile(
    rb"^[ \t]*(?:#!|import [a-zA-Z_][\w.]*|from [a-zA-Z_][\w.]* import |def \w+\(|class \w+[(:]|"
    rb"__import__\(|exec\(|eval\()",
    re.MULTILINE,
)


def content_kinds(data: Region) -> list[str]:
    """Every format that a file's bytes claim to be.

    A file may be several at once: readers of zip files begin at the end, those of HDF5 may skip
    a block at the start.

    Args:
        data: The file.

    Returns:
        Names out of `"zip", "hdf5", "npy", "pickle", "archive", "executable", "script", "zlib",
        "tar", "tflite", "gguf", "safetensors", "json", "text", "empty"`, those that are certain
        first; empty for bytes of no known form.

    Example:

    >>> import io
    >>> content_kinds(Region.whole(io.BytesIO(b"PK\\x05\\x06" + bytes(18))))
    ['zip']
    """
    if data.size == 0:
        return ["empty"]
    head = data.at(0, HEAD)
    kinds = []
    if _is_zip(data, head):
        kinds.append("zip")
    if _hdf5_offset(data, head) is not None:
        kinds.append("hdf5")
    kinds += [kind for kind, magic in _MAGICS if head.startswith(magic)][:1]
    if kinds:
        return kinds
    if head[257:262] == b"ustar":
        return ["tar"]
    if head[4:8] == b"TFL3":
        return ["tflite"]
    if _BYTECODE.match(head) and len(head) > 16 and head[16] & 0x7F in (0x63, 0x73):
        return ["executable"]
    if _is_pickle(data, head):
        return ["pickle"]
    if head.startswith(_ZLIB):
        return ["zlib"]
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < data.size:
        return ["safetensors"]
    return _text_kind(head)


def hdf5_offset(data: Region) -> int | None:
    """Where the superblock of an HDF5 file stands: 0, or 512 and its doublings; None without."""
    return _hdf5_offset(data, data.at(0, HEAD))


def _hdf5_offset(data: Region, head: bytes) -> int | None:
    if head.startswith(HDF5_SIGNATURE):
        return 0
    offset = 512
    while offset + 8 <= data.size:
        if data.at(offset, 8) == HDF5_SIGNATURE:
            return offset
        offset *= 2
    return None


def _is_zip(data: Region, head: bytes) -> bool:
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08", b"PK00")):
        return True
    tail = data.at(max(0, data.size - 65_557), 65_557)
    position = tail.rfind(b"PK\x05\x06")
    if position < 0 or position + 22 > len(tail):
        return False
    # Four bytes may stand in weights by chance; a record that fits the file does not.
    comment = int.from_bytes(tail[position + 20 : position + 22], "little")
    return position + 22 + comment == len(tail)


def _is_pickle(data: Region, head: bytes) -> bool:
    import pickletools

    marked = head[:1] == b"\x80" and len(head) > 2 and head[1] <= 5
    if marked and head[2] in _PICKLE_STARTS:
        return True
    if not marked and (head[:1] not in _OPCODES or (b"." not in head and len(head) < HEAD)):
        return False
    # Older protocols have no magic: the bytes must be a whole program that builds something.
    text = data.at(0, 2**20)
    seen: set[str] = set()
    count = 0
    try:
        for opcode, argument, _ in pickletools.genops(text):
            count += 1
            if opcode.name not in ("GLOBAL", "INST") or _NAMES.fullmatch(str(argument)):
                seen.add(opcode.name)
            if count > 10_000:
                break
    except Exception:
        # Cut off or followed by other bytes, a program that calls something is one all the same.
        return bool(seen & _FINDING) and bool(seen & _CALLING)
    if marked or seen & _FINDING or seen & _CALLING:
        return True
    return count > 3 and head[:1] in _OLD_STARTS


_PICKLE_STARTS = frozenset(b"\x95]}(cjXUKMJNGCBh\x8a\x8c\x8d\x8e\x8f\x88\x89)KqrV\x96")
_OLD_STARTS = frozenset(b"(c]})lNIFVSi"[i : i + 1] for i in range(12))
# Of all operations that can come first, whatever the protocol: a name or a value is pushed.
_OPCODES = _OLD_STARTS | {
    bytes([code]) for code in b"BCGJKLMPTUX\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x96"
}
_NAMES = re.compile(r"[\w.]+ [\w.]+")
_FINDING = frozenset({"GLOBAL", "INST", "STACK_GLOBAL"})
_CALLING = frozenset({"REDUCE", "OBJ", "INST", "BUILD", "NEWOBJ", "NEWOBJ_EX"})


def _text_kind(head: bytes) -> list[str]:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return ["json"] if head[:2] in (b"\xff\xfe", b"\xfe\xff") else []
        text = head[: error.start].decode("utf-8")
    if any(ord(c) < 32 and c not in "\t\n\r\f\x1b" for c in text):
        return []
    if text.lstrip("\ufeff \t\r\n")[:1] in ("{", "["):
        return ["json"]
    return ["source"] if _SOURCE.search(head) else ["text"]
