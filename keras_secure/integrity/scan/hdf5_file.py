"""HDF5 files: groups, links, datasets and attributes, by the HDF5 library in a process of its own.

The library is written in C and may die of a hostile file. That is why all of this runs in a child
process with limits, whose death is a finding.
"""

from typing import Any

from keras_secure.integrity.scan.collector import Collector
from keras_secure.integrity.scan.content import hdf5_offset
from keras_secure.integrity.scan.hdf5_attributes import inspect_attributes
from keras_secure.integrity.scan.hdf5_findings import Hdf5Contents, Hdf5Findings
from keras_secure.integrity.scan.hdf5_values import Hdf5Values
from keras_secure.integrity.scan.place import Place, quoted
from keras_secure.integrity.scan.region import Region


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
    findings = Hdf5Findings(data, place, collector)
    try:
        _Walk(findings).run(file)
    finally:
        # What is broken in the file may break its closing too; the process ends soon anyway.
        try:
            file.close()
        except Exception as error:
            collector.add(
                "scan.hdf5.malformed", f"The file cannot be closed: {quoted(str(error))}.", place
            )
    return findings.contents


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
    def __init__(self, findings: Hdf5Findings):
        self.findings = findings
        self.values = Hdf5Values(findings)

    def run(self, file: Any) -> None:
        import h5py

        try:
            root = h5py.h5g.open(file.id, b"/")
            seen = {_address(h5py.h5o.get_info(root))}
        except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
            self.findings.broken(error, "/")
            return
        stack: list[tuple[Any, str, int]] = [(root, "/", 0)]
        objects = 0
        while stack:
            self.findings.collector.tick()
            group, path, depth = stack.pop()
            if objects > self.findings.collector.limits.files:
                self.findings.collector.add(
                    "scan.limits.files", "The file has too many objects.", self.findings.place
                )
                return
            inspect_attributes(group, path, self.findings)
            if depth > self.findings.collector.limits.depth:
                self.findings.add("scan.hdf5.malformed", "Groups are nested beyond measure.", path)
                continue
            names: set[bytes] = set()
            for name, kind in self._links(group, path):
                inner = f"{path.rstrip('/')}/{quoted(name, 100)}"
                if name in names:
                    self.findings.add(
                        "scan.hdf5.hard_link", "Two objects have one name in their group.", inner
                    )
                names.add(name)
                if kind != h5py.h5l.TYPE_HARD:
                    self._link(group, name, kind, inner)
                    continue
                try:
                    item = h5py.h5o.open(group, name)
                    address = _address(h5py.h5o.get_info(item))
                except Exception as error:
                    self.findings.broken(error, inner)
                    continue
                if address in seen:
                    self.findings.add("scan.hdf5.hard_link", "The object has several names.", inner)
                    continue
                seen.add(address)
                objects += 1
                if isinstance(item, h5py.h5g.GroupID):
                    stack.append((item, inner, depth + 1))
                elif isinstance(item, h5py.h5d.DatasetID):
                    inspect_attributes(item, inner, self.findings)
                    try:
                        self.values.inspect(item, inner)
                    except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
                        self.findings.broken(error, inner)
                else:
                    self.findings.add("scan.hdf5.type", "A type is stored as an object.", inner)

    def _links(self, group: Any, path: str) -> list[tuple[bytes, int]]:
        found: list[tuple[bytes, int]] = []

        def take(name, info):
            self.findings.collector.tick()
            found.append((name, info.type))
            return None if len(found) <= self.findings.collector.limits.files else 1

        try:
            group.links.iterate(take, info=True)
        except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
            self.findings.broken(error, path)
        return sorted(found)

    def _link(self, group: Any, name: bytes, kind: int, path: str) -> None:
        import h5py

        try:
            value = group.links.get_val(name)
        except Exception as error:
            value = f"unreadable ({error})"
        if kind == h5py.h5l.TYPE_SOFT:
            self.findings.add(
                "scan.hdf5.soft_link",
                f"A soft link points to {quoted(value)!r}.",
                path,
                target=value,
            )
        elif kind == h5py.h5l.TYPE_EXTERNAL:
            target = " > ".join(map(quoted, value)) if isinstance(value, tuple) else quoted(value)
            self.findings.add(
                "scan.hdf5.external_link",
                f"A link leads into another file, {target!r}.",
                path,
                target=target,
            )
        else:
            self.findings.add(
                "scan.hdf5.external_link", f"A link is of the unknown kind {kind}.", path
            )


def _address(info: Any) -> tuple[int, int]:
    return info.fileno, info.addr
