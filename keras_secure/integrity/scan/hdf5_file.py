"""HDF5 files: groups, links, datasets and attributes, by the HDF5 library in a process of its own.

The library is written in C and may die of a hostile file. That is why all of this runs in a child
process with limits, whose death is a finding.
"""

from typing import Any

from keras_secure.integrity.scan.collector import Collector
from keras_secure.integrity.scan.content import hdf5_offset
from keras_secure.integrity.scan.finite import BLOCK, count_nonfinite, nonfinite_free
from keras_secure.integrity.scan.json_document import read_json
from keras_secure.integrity.scan.keras_config import inspect_config
from keras_secure.integrity.scan.place import Place, quoted
from keras_secure.integrity.scan.region import Region
from keras_secure.integrity.scan.strings import code_kind

CONFIGS = ("model_config", "training_config")
BUILTIN_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}


class Hdf5Contents:
    """What an inspection learnt besides its findings.

    Args:
        stored: Count of values that the datasets store.
        declared: Parameters that a configuration in the file declares.
        has_config: Whether the file holds a model and not weights alone.
    """

    def __init__(self, stored: int = 0, declared: int = 0, has_config: bool = False):
        self.stored = stored
        self.declared = declared
        self.has_config = has_config


def inspect_hdf5(data: Region, place: Place, collector: Collector) -> Hdf5Contents:
    """Checks everything in an HDF5 file without following a link or reading another file.

    Args:
        data: The file.
        place: Where it stands.
        collector: Takes the findings.

    Returns:
        What it holds.
    """
    _check_surroundings(data, place, collector)
    import h5py

    try:
        file = h5py.File(data, "r")
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        collector.add(
            "scan.hdf5.malformed", f"The file cannot be opened: {quoted(str(error))}.", place
        )
        return Hdf5Contents()
    walk = _Walk(data, place, collector)
    try:
        walk.run(file)
    finally:
        # What is broken in the file may break its closing too; the process ends soon anyway.
        try:
            file.close()
        except Exception as error:
            collector.add(
                "scan.hdf5.malformed", f"The file cannot be closed: {quoted(str(error))}.", place
            )
    return walk.contents


def _check_surroundings(data: Region, place: Place, collector: Collector) -> None:
    offset = hdf5_offset(data)
    if offset:
        collector.add("scan.hdf5.hidden", f"{offset} bytes stand before the HDF5 signature.", place)
        return
    head = data.at(0, 64)
    version = head[8] if len(head) > 8 else 255
    position = {0: 40, 1: 44, 2: 28, 3: 28}.get(version)
    width = head[13] if version < 2 else head[9]
    if position is None or width != 8 or len(head) < position + 8:
        return
    end = int.from_bytes(head[position : position + 8], "little")
    if data.size > end:
        collector.add(
            "scan.hdf5.hidden",
            f"{data.size - end} bytes stand behind the end of the HDF5 file.",
            place,
            bytes=data.size - end,
        )


class _Walk:
    def __init__(self, data: Region, place: Place, collector: Collector):
        self.data = data
        self.place = place
        self.collector = collector
        self.contents = Hdf5Contents()
        self.used = 0
        self.folded = 0

    def run(self, file: Any) -> None:
        import h5py

        try:
            root = h5py.h5g.open(file.id, b"/")
            seen = {_address(h5py.h5o.get_info(root))}
        except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
            self.broken(error, "/")
            return
        stack: list[tuple[Any, str, int]] = [(root, "/", 0)]
        objects = 0
        while stack:
            self.collector.tick()
            group, path, depth = stack.pop()
            if objects > self.collector.limits.files:
                self.collector.add(
                    "scan.limits.files", "The file has too many objects.", self.place
                )
                return
            self.attributes(group, path)
            if depth > self.collector.limits.depth:
                self.add("scan.hdf5.malformed", "Groups are nested beyond measure.", path)
                continue
            for name, kind in self.links(group, path):
                inner = f"{path.rstrip('/')}/{quoted(name, 100)}"
                if kind != h5py.h5l.TYPE_HARD:
                    self.link(group, name, kind, inner)
                    continue
                try:
                    item = h5py.h5o.open(group, name)
                    address = _address(h5py.h5o.get_info(item))
                except Exception as error:
                    self.broken(error, inner)
                    continue
                if address in seen:
                    self.add("scan.hdf5.hard_link", "The object has several names.", inner)
                    continue
                seen.add(address)
                objects += 1
                if isinstance(item, h5py.h5g.GroupID):
                    stack.append((item, inner, depth + 1))
                elif isinstance(item, h5py.h5d.DatasetID):
                    self.attributes(item, inner)
                    try:
                        self.dataset(item, inner)
                    except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
                        self.broken(error, inner)
                else:
                    self.add("scan.hdf5.type", "A type is stored as an object.", inner)

    def add(self, rule, statement, path, **evidence):
        self.collector.add(rule, statement, self.place.inside(path), **evidence)

    def broken(self, error: Exception, path: str) -> None:
        self.add(
            "scan.hdf5.malformed",
            f"The HDF5 library cannot read it: {quoted(str(error), 200)}.",
            path,
        )

    def links(self, group: Any, path: str) -> list[tuple[bytes, int]]:
        found: list[tuple[bytes, int]] = []

        def take(name, info):
            self.collector.tick()
            found.append((name, info.type))
            return None if len(found) <= self.collector.limits.files else 1

        try:
            group.links.iterate(take, info=True)
        except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
            self.broken(error, path)
        return sorted(found)

    def link(self, group: Any, name: bytes, kind: int, path: str) -> None:
        import h5py

        try:
            value = group.links.get_val(name)
        except Exception as error:
            value = f"unreadable ({error})"
        if kind == h5py.h5l.TYPE_SOFT:
            self.add(
                "scan.hdf5.soft_link",
                f"A soft link points to {quoted(value)!r}.",
                path,
                target=value,
            )
        elif kind == h5py.h5l.TYPE_EXTERNAL:
            target = " > ".join(map(quoted, value)) if isinstance(value, tuple) else quoted(value)
            self.add(
                "scan.hdf5.external_link",
                f"A link leads into another file, {target!r}.",
                path,
                target=target,
            )
        else:
            self.add("scan.hdf5.external_link", f"A link is of the unknown kind {kind}.", path)

    def attributes(self, item: Any, path: str) -> None:
        import h5py

        try:
            count = h5py.h5a.get_num_attrs(item)
        except (OSError, ValueError, RuntimeError) as error:
            self.broken(error, path)
            return
        if count > self.collector.limits.files:
            self.add("scan.hdf5.attribute", f"The object has {count} attributes.", path)
            return
        for index in range(count):
            self.collector.tick()
            try:
                attribute = h5py.h5a.open(item, index=index)
                name = attribute.name
                label = name.decode("utf-8", "backslashreplace")
                self.attribute(attribute, label, path)
            except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
                self.broken(error, f"{path}@{index}")

    def attribute(self, attribute: Any, name: str, path: str) -> None:
        import h5py

        inner = f"{path}@{quoted(name, 60)}"
        tid = attribute.get_type()
        points = attribute.get_space().get_simple_extent_npoints()
        # The library takes the size of an empty attribute for an error.
        size = attribute.get_storage_size() if points else 0
        if size > self.collector.limits.document or points > 2**24:
            self.add("scan.hdf5.attribute", f"The attribute has {max(size, points)} bytes.", inner)
            return
        if problem := self.type_problem(tid):
            rule = "scan.hdf5.reference" if "reference" in problem else "scan.hdf5.type"
            self.add(rule, f"The attribute is {problem}.", inner)
            return
        if not isinstance(tid, h5py.h5t.TypeStringID):
            return
        texts = _texts(attribute, points)
        for text in texts:
            if len(text) > self.collector.limits.document:
                self.add("scan.hdf5.attribute", f"The text has {len(text)} bytes.", inner)
            elif path == "/" and name in CONFIGS:
                self.config(text, name)
            elif kind := code_kind(text.decode("utf-8", "backslashreplace")):
                self.add("scan.keras.code", f"The text holds {kind}.", inner, kind=kind)

    def config(self, text: bytes, name: str) -> None:
        place = self.place.inside(name)
        document = read_json(text, place, self.collector)
        if document is None:
            return
        if not isinstance(document, dict):
            self.collector.add("scan.keras.malformed", "The configuration is no object.", place)
            return
        self.contents.has_config = self.contents.has_config or name == "model_config"
        self.contents.declared += inspect_config(document, place, self.collector, legacy=True)

    def type_problem(self, tid: Any, depth: int = 0) -> str:
        import h5py

        if depth > 8:
            return "of a type nested beyond measure"
        if isinstance(tid, h5py.h5t.TypeReferenceID):
            return "a reference to another object"
        if isinstance(tid, h5py.h5t.TypeVlenID):
            return "a list of varying length"
        if isinstance(tid, h5py.h5t.TypeOpaqueID):
            # NumPy's types of 8 and 16 bits that HDF5 does not know are kept this way.
            return "" if tid.get_size() <= 2 else "of an opaque type"
        if isinstance(tid, h5py.h5t.TypeCompoundID):
            for i in range(min(tid.get_nmembers(), 64)):
                if problem := self.type_problem(tid.get_member_type(i), depth + 1):
                    return problem
            return "of a compound type" if depth == 0 and not _is_complex(tid) else ""
        if isinstance(tid, h5py.h5t.TypeArrayID):
            return self.type_problem(tid.get_super(), depth + 1) or "an array of arrays"
        return ""

    def dataset(self, item: Any, path: str) -> None:
        import h5py

        properties = item.get_create_plist()
        layout = properties.get_layout()
        if properties.get_external_count():
            target = properties.get_external(0)[0]
            self.add(
                "scan.hdf5.external_storage",
                f"The values are those of another file, {quoted(target)!r}.",
                path,
                target=target,
            )
            return
        if layout == h5py.h5d.VIRTUAL:
            self.add("scan.hdf5.virtual", "The values are mapped from other files.", path)
            return
        filters = [properties.get_filter(i) for i in range(min(properties.get_nfilters(), 32))]
        unknown = [(code, name) for code, _, _, name in filters if code not in BUILTIN_FILTERS]
        for code, name in unknown:
            self.add(
                "scan.hdf5.filter",
                f"The values pass filter {code} ({quoted(name, 40)}), which Keras does not use.",
                path,
                filter=code,
            )
        tid = item.get_type()
        if problem := self.type_problem(tid):
            rule = "scan.hdf5.reference" if "reference" in problem else "scan.hdf5.type"
            self.add(rule, f"The dataset is {problem}.", path)
            return
        if isinstance(tid, h5py.h5t.TypeStringID):
            self.add("scan.hdf5.type", "The dataset holds text.", path)
            return
        shape = item.shape or ()
        values = 1
        for n in shape:
            values = min(values * n, 2**62)
        if item.get_space().get_simple_extent_type() == h5py.h5s.NULL:
            values = 0
        declared, stored = values * tid.get_size(), item.get_storage_size()
        self.contents.stored += values
        self.used += stored
        if self.used > self.data.size or (declared > stored and not filters):
            self.add(
                "scan.hdf5.declared_size",
                f"The shape {quoted(shape, 60)} needs {declared} bytes; {stored} are stored.",
                path,
                declared=declared,
                stored=stored,
            )
            return
        limits = self.collector.limits
        self.collector.unfolded += declared if filters else 0
        if filters and declared > limits.ratio * stored:
            self.folded += declared
        if filters and (
            (declared > limits.ratio * stored and self.folded > limits.unfolded_freely)
            or self.collector.unfolded > limits.unfolded
            or (values and not stored)
        ):
            self.add(
                "scan.hdf5.bomb",
                f"{stored} stored bytes unfold into {declared}.",
                path,
                declared=declared,
                stored=stored,
            )
            return
        if not unknown and values:
            self.finite(item, tid, layout, filters, declared, path)

    def finite(self, item, tid, layout, filters, declared, path) -> None:
        import h5py

        kind = tid.dtype.str if isinstance(tid, h5py.h5t.TypeFloatID) or _is_complex(tid) else None
        if isinstance(tid, h5py.h5t.TypeOpaqueID) and _says_bfloat16(item):
            kind = "bfloat16"
        if kind is None and layout != h5py.h5d.CHUNKED:
            return
        offset = item.get_offset() if layout == h5py.h5d.CONTIGUOUS else None
        if offset is not None and kind is not None and not filters:
            if offset + declared > self.data.size:
                self.add("scan.hdf5.declared_size", "The values lie outside the file.", path)
                return
            bad = count_nonfinite(self.data.within(offset, declared), kind, self.collector)
        else:
            bad = self.read_through(h5py.Dataset(item), kind)
        if bad:
            self.add("scan.weights.nonfinite", f"{bad} values are not finite.", path, count=bad)

    def read_through(self, dataset: Any, kind: str | None) -> int:
        """Reads by the library, slice by slice; chunks that cannot be unfolded raise."""
        import numpy

        rows = dataset.shape[0] if dataset.shape else 1
        row = max(1, dataset.size // max(1, rows) * dataset.dtype.itemsize)
        if row > 16 * BLOCK:
            blocks = list(dataset.iter_chunks()) if dataset.chunks else [()]
        else:
            step = max(1, BLOCK // row)
            blocks = [slice(i, i + step) for i in range(0, rows, step)] if dataset.shape else [()]
        bad = 0
        for block in blocks:
            self.collector.tick()
            values = numpy.asarray(dataset[block])
            if kind == "bfloat16":
                bits = values.view("<u2") if values.ndim else values.reshape(1).view("<u2")
                bad += int(numpy.count_nonzero((bits & 0x7F80) == 0x7F80))
            elif values.dtype.kind in "fc" and not nonfinite_free(values):
                bad += int(values.size - numpy.count_nonzero(numpy.isfinite(values)))
        return bad


def _address(info: Any) -> tuple[int, int]:
    return info.fileno, info.addr


def _texts(attribute: Any, points: int) -> list[bytes]:
    import h5py
    import numpy

    tid = attribute.get_type()
    if points == 0:
        return []
    if tid.is_variable_str():
        array = numpy.empty(attribute.shape, dtype=object)
        memory = h5py.h5t.py_create(h5py.string_dtype("utf-8"))
    else:
        array = numpy.empty(attribute.shape, dtype=f"S{tid.get_size()}")
        memory = None
    attribute.read(array, mtype=memory) if memory is not None else attribute.read(array)
    return [v if isinstance(v, bytes) else str(v).encode("utf-8", "replace") for v in array.flat]


def _is_complex(tid: Any) -> bool:
    try:
        return bool(tid.dtype.kind == "c")
    except (TypeError, ValueError):
        return False


def _says_bfloat16(item: Any) -> bool:
    import h5py

    try:
        value = h5py.AttributeManager(h5py.Dataset(item)).get("dtype")
    except Exception:
        return False
    return value in ("bfloat16", b"bfloat16")
