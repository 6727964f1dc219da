"""Files of NumPy: a header that is a Python literal, and the bytes of an array, or a pickle."""

import ast
import re
import struct

from keras_secure.integrity.scan.collector import Collector
from keras_secure.integrity.scan.finite import count_nonfinite
from keras_secure.integrity.scan.place import Place, quoted
from keras_secure.integrity.scan.region import Region

_LONGEST_HEADER = 65_536
_SIMPLE = re.compile(
    r"[<>|=]?(?:b1|i[1248]|u[1248]|f[248]|f16|c8|c16|c32|[SUV]\d{1,9}|[?bBhHiIlLqQefdgFDG])"
)
_DATE = re.compile(r"[<>|=]?[mM]8(?:\[[\w/]{1,20}\])?")


def inspect_npy(data: Region, place: Place, collector: Collector) -> int:
    """Checks one `.npy` file.

    Args:
        data: The file.
        place: Where it stands.
        collector: Takes the findings.

    Returns:
        Count of values that the array has.
    """
    prefix = data.at(0, 12)
    version = tuple(prefix[6:8])
    if len(prefix) < 12 or version not in ((1, 0), (2, 0), (3, 0)):
        collector.add("scan.numpy.header", f"The version {version} is not known.", place)
        return 0
    start = 10 if version == (1, 0) else 12
    length = (
        struct.unpack("<H", prefix[8:10])[0]
        if start == 10
        else struct.unpack("<I", prefix[8:12])[0]
    )
    if length > _LONGEST_HEADER or start + length > data.size:
        collector.add("scan.numpy.header", f"The header would have {length} bytes.", place)
        return 0
    text = data.at(start, length).decode("utf-8" if version == (3, 0) else "latin-1", "replace")
    header = _parse(text)
    if header is None:
        collector.add(
            "scan.numpy.header",
            "The header is not the dictionary that NumPy writes.",
            place,
            header=quoted(text, 120),
        )
        if "O" in text:
            collector.add("scan.numpy.pickle", "The header may ask for Python objects.", place)
        return 0
    descr, shape = header
    itemsize, holds_objects, kind = _type(descr)
    if holds_objects:
        collector.add(
            "scan.numpy.pickle", "The array holds Python objects, which are unpickled.", place
        )
        return 0
    if itemsize is None:
        collector.add("scan.numpy.header", f"The type {quoted(descr, 80)!r} is not known.", place)
        return 0
    count = 1
    for size in shape:
        count = min(count * size, 2**63)
    stored = data.size - start - length
    if count * itemsize != stored:
        collector.add(
            "scan.numpy.declared_size",
            f"The shape {quoted(shape, 80)} needs {count * itemsize} bytes; {stored} are stored.",
            place,
            declared=count * itemsize,
            stored=stored,
        )
    elif kind:
        bad = count_nonfinite(data.within(start + length, stored), kind, collector)
        if bad:
            collector.add(
                "scan.weights.nonfinite",
                f"{bad} of {count} values are not finite.",
                place,
                count=bad,
            )
    return count


def _parse(text: str) -> tuple[object, tuple[int, ...]] | None:
    text = text.strip()
    # A literal of this form cannot be deep, and nothing but a literal is accepted.
    if not (text.startswith("{") and text.endswith("}")):
        return None
    if sum(map(text.count, "([{")) > 200 or text.count("-") + text.count("+") > 50:
        return None
    try:
        header = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        return None
    shape = header["shape"]
    if not isinstance(header["fortran_order"], bool) or not isinstance(shape, tuple):
        return None
    if len(shape) > 64 or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
        return None
    return header["descr"], shape


def _type(descr: object) -> tuple[int | None, bool, str | None]:
    """Bytes of one value, whether it is an object, and its type where it may be non-finite."""
    if isinstance(descr, str):
        if re.search(r"O", descr):
            return None, True, None
        if not (_SIMPLE.fullmatch(descr) or _DATE.fullmatch(descr)):
            return None, False, None
        import numpy

        try:
            dtype = numpy.dtype(descr)
        except (TypeError, ValueError):
            return None, False, None
        return dtype.itemsize, dtype.hasobject, descr if dtype.kind in "fc" else None
    if isinstance(descr, (list, tuple)) and len(descr) <= 256:
        total = 0
        for field in descr:
            if not isinstance(field, tuple) or len(field) not in (2, 3):
                return None, "O" in repr(descr)[:10_000], None
            size, holds_objects, _ = _type(field[1])
            if holds_objects:
                return None, True, None
            if size is None:
                return None, False, None
            count = 1
            if len(field) == 3:
                shape = field[2] if isinstance(field[2], tuple) else (field[2],)
                for n in shape:
                    if type(n) is not int or n < 0:
                        return None, False, None
                    count = min(count * n, 2**62)
            total += size * count
        return total, False, None
    return None, "O" in repr(descr)[:10_000], None
