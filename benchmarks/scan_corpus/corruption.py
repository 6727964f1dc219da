"""Damages files at random, blindly and where it hurts; the same seed does the same damage."""

import io
import json
import random
import struct
import zipfile

NUMBERS = (0, 1, 2, 127, 128, 255, *(2**bits - 1 for bits in (16, 31, 32, 63, 64)), 2**31)
MARKS = (
    *(b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06"),
    *(b"\x89HDF", b"TREE", b"SNOD", b"HEAP", b"GCOL", b"OHDR", b"OCHK", b"FRHP", b"FHDB"),
    *(b"BTHD", b"BTLF", b"FSHD", b"\x93NUMPY", b"descr", b"shape"),
)


def flip(data, rng):
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        at = rng.randrange(len(data))
        data[at] ^= 1 << rng.randrange(8)


def number(data, rng, at=None):
    """Overwrites a field of 1, 2, 4 or 8 bytes with a number that is often mishandled."""
    size = rng.choice((1, 2, 4, 8))
    at = rng.randrange(len(data)) if at is None else at
    value = rng.choice(NUMBERS) if rng.random() < 0.8 else rng.getrandbits(64)
    data[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")


def marked_number(data, rng):
    """The same, shortly after one of the marks that structures begin with."""
    mark = rng.choice([mark for mark in MARKS if mark in data] or [b""])
    places, start = [], data.find(mark)
    while start >= 0 and len(places) < 2000 and mark:
        places.append(start)
        start = data.find(mark, start + 1)
    if not places:
        return number(data, rng)
    number(data, rng, min(rng.choice(places) + rng.randrange(4, 64), len(data) - 1))


def truncate(data, rng):
    del data[rng.randrange(len(data)) :]


def cut(data, rng):
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 4, 100, 4096))]


def insert(data, rng):
    at = rng.randrange(len(data))
    data[at:at] = rng.choice((b"\0", b"\xff" * 8, rng.randbytes(20), bytes(data[at : at + 500])))


def move(data, rng):
    size = rng.choice((4, 64, 1024))
    source, goal = rng.randrange(len(data)), rng.randrange(len(data))
    data[goal : goal + size] = data[source : source + size]


BLIND = (flip, flip, number, marked_number, marked_number, truncate, cut, insert, move)


def blind(data, rng, other=b""):
    """Bytes after one to four changes that know little of the format."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not data:
            break
        if other and rng.random() < 0.1:
            at, size = rng.randrange(len(data)), rng.choice((16, 512, 8192))
            start = rng.randrange(len(other))
            data[at : at + size] = other[start : start + size]
        else:
            rng.choice(BLIND)(data, rng)
    return bytes(data)


def odd_value(rng):
    return rng.choice(
        (
            *(None, True, -1, 0, 10**30, 1e308, float("nan"), float("inf"), "", "\0", "\ud800"),
            *("x" * 5000, [], {}, [[]], [None], {"": {}}, [0] * 1000, "/etc/passwd", "__main__"),
            *({"class_name": None}, {"class_name": "Lambda"}, {"class_name": [], "config": 3}),
            {"class_name": "Dense", "config": {"units": -5}},
        )
    )


def nested(rng):
    """What stacks deeply, as JSON text."""
    depth = rng.choice((50, 900, 5000, 200_000))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'{"config":', b"}")))
    return opening * depth + b"1" + closing * rng.choice((depth, 0))


def spots(value, found=None):
    """Every (container, key) of a JSON value."""
    found = [] if found is None else found
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        found.append((value, key))
        if isinstance(inner, dict | list):
            spots(inner, found)
    return found


def damaged_json(text, rng):
    if rng.random() < 0.1:
        return nested(rng)
    if rng.random() < 0.3:
        return blind(text, rng)
    try:
        value = json.loads(text)
        places = spots(value)
    except (ValueError, AttributeError, TypeError, RecursionError):
        return blind(text, rng)
    for _ in range(rng.choice((1, 2, 5)) if places else 0):
        container, key = rng.choice(places)
        kind = rng.randrange(4)
        if kind == 0 and isinstance(container, dict):
            container.pop(key, None)
        elif kind == 1 and isinstance(container, dict):
            container[rng.choice(("class_name", "config", "module", "layers", "x"))] = odd_value(
                rng
            )
        elif kind == 2:
            other, source = rng.choice(places)
            held = other[source] if isinstance(other, list) and source < len(other) else None
            if isinstance(container, dict) or key < len(container):
                container[key] = json.loads(json.dumps(held))
        elif isinstance(container, dict) or key < len(container):
            container[key] = odd_value(rng)
    return json.dumps(value).encode()


def varint(value):
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def fields(data):
    """The fields of a protocol buffer: (start, start of the payload, end, wire type)."""
    found, at = [], 0

    def read(at):
        value, shift = 0, 0
        while True:
            byte = data[at]
            value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
            if byte < 0x80 or shift > 63:
                return value, at

    try:
        while at < len(data):
            start = at
            tag, at = read(at)
            wire = tag & 7
            payload = at
            if wire == 0:
                _, at = read(at)
            elif wire == 1:
                at += 8
            elif wire == 5:
                at += 4
            elif wire == 2:
                size, payload = read(at)
                at = payload + size
            else:
                return None
            if at > len(data):
                return None
            found.append((start, payload, at, wire))
    except IndexError:
        return None
    return found


def damaged_protobuf(data, rng, depth=0):
    """Goes down a random path of messages and changes a field there."""
    found = fields(data)
    if not found or rng.random() < 0.1:
        return blind(data, rng) if data else b"\xff"
    start, payload, end, wire = rng.choice(found)
    whole = data[start:end]
    tag_end = start + 1
    while data[tag_end - 1] & 0x80:
        tag_end += 1
    if wire == 2 and end > payload and depth < 12 and rng.random() < 0.85:
        inner = damaged_protobuf(data[payload:end], rng, depth + 1)
        changed = data[start:tag_end] + varint(len(inner)) + inner
    else:
        kind = rng.randrange(5)
        if kind == 0:
            changed = b""
        elif kind == 1:
            changed = whole * rng.choice((2, 50))
        elif kind == 2 and wire == 2:
            changed = data[start:tag_end] + varint(rng.choice(NUMBERS)) + data[payload:end]
        elif kind == 3:
            changed = varint(rng.randrange(1, 40) << 3 | rng.randrange(8)) + whole[1:]
        else:
            tag, changed = data[start:tag_end], data[payload:end]
            for _ in range(rng.choice((3, 90, 400))):
                changed = tag + varint(len(changed)) + changed
    return data[:start] + changed + data[end:]


def damaged_numpy(data, rng):
    """An array file whose header says something else."""
    if len(data) < 12 or rng.random() < 0.4:
        return blind(data, rng) if data else b"\x93NUMPY"
    size = struct.unpack_from("<H", data, 8)[0]
    header, rest = data[10 : 10 + size], data[10 + size :]
    old, new = rng.choice(
        (
            (b"'<f4'", b"'|O'"),
            (b"'<f4'", b"'<f" + str(rng.choice((0, 3, 10**9))).encode() + b"'"),
            (b"'shape'", b"'shap\\x65'"),
            (b"(", b"(" * rng.choice((2, 150, 5000))),
            (b")", b"," + b"9" * rng.choice((3, 30, 4000)) + b",)"),
            (b"False", b"[" * rng.choice((3, 90, 9000))),
            (b"{", b"{0:0," * rng.choice((1, 300))),
            (b"descr", rng.randbytes(5)),
        )
    )
    header = header.replace(old, new, 1)
    return data[:8] + struct.pack("<H", len(header) & 0xFFFF) + header + rest


def damaged_zip(data, rng):
    """An archive packed again around damaged content."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            held = [
                (info.filename, archive.read(info))
                for info in archive.infolist()[:50]
                if info.file_size < 2**20
            ]
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, NotImplementedError):
        return blind(data, rng)
    except Exception:  # zlib.error, lzma.LZMAError: what damage brings about
        return blind(data, rng)
    if not held:
        return blind(data, rng)
    at = rng.randrange(len(held))
    name, content = held[at]
    if rng.random() < 0.15:
        held[at] = (rng.choice(("../x", "config.json/", "", "a" * 60_000, "\0", "é\n")), content)
    elif content:
        held[at] = (name, damaged(name, content, rng))
    if rng.random() < 0.1:
        rng.shuffle(held)
    out = io.BytesIO()
    import warnings

    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as archive:
        warnings.simplefilter("ignore", UserWarning)
        for name, content in held:
            info = zipfile.ZipInfo(name or "_", (1980, 1, 1, 0, 0, 0))
            info.compress_type = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            archive.writestr(info, content)
    packed = out.getvalue()
    return blind(packed, rng) if rng.random() < 0.2 else packed


def damaged(name, data, rng, other=b""):
    """Bytes of a file after a change that fits its format, or one that does not."""
    if not data:
        return rng.randbytes(8)
    if rng.random() < 0.35:
        return blind(data, rng, other)
    if data[:2] == b"PK":
        return damaged_zip(data, rng)
    if name.endswith(".json"):
        return damaged_json(data, rng)
    if name.endswith((".npy",)) or data[:6] == b"\x93NUMPY":
        return damaged_numpy(data, rng)
    if name.endswith(".pb"):
        return damaged_protobuf(data, rng)
    return blind(data, rng, other)


def damage(path, seed, other=b""):
    """Damages one file, or one of those in a folder, in place."""
    rng = random.Random(seed)
    files = [path]
    if path.is_dir():
        files = [one for one in sorted(path.rglob("*")) if one.is_file() and not one.is_symlink()]
        telling = [one for one in files if one.suffix in (".pb", ".json", ".index", ".h5")]
        files = telling if telling and rng.random() < 0.8 else files
    if files:
        chosen = rng.choice(files)
        chosen.write_bytes(damaged(chosen.name, chosen.read_bytes(), rng, other))
