"""Attributes in HDF5 files: small values beside the weights, and legacy models' configurations."""

from typing import Any

from keras_secure.integrity.scan.hdf5_findings import Hdf5Findings
from keras_secure.integrity.scan.hdf5_type import type_problem
from keras_secure.integrity.scan.json_document import read_json
from keras_secure.integrity.scan.keras_config import inspect_config
from keras_secure.integrity.scan.place import quoted
from keras_secure.integrity.scan.strings import code_kind

CONFIGS = ("model_config", "training_config")


def inspect_attributes(item: Any, path: str, findings: Hdf5Findings) -> None:
    """Checks all attributes of an object, among them the configuration of a whole model.

    Args:
        item: A group or a dataset, as h5py has it.
        path: Its path.
        findings: Takes what is found.
    """
    import h5py

    try:
        count = h5py.h5a.get_num_attrs(item)
    except (OSError, ValueError, RuntimeError) as error:
        findings.broken(error, path)
        return
    if count > findings.collector.limits.files:
        findings.add("scan.hdf5.attribute", f"The object has {count} attributes.", path)
        return
    names: set[bytes] = set()
    for index in range(count):
        findings.collector.tick()
        try:
            attribute = h5py.h5a.open(item, index=index)
            label = attribute.name.decode("utf-8", "backslashreplace")
            if attribute.name in names:
                findings.add(
                    "scan.hdf5.attribute",
                    "Two attributes have one name; readers differ in which they take.",
                    f"{path}@{quoted(label, 60)}",
                )
            names.add(attribute.name)
            _attribute(attribute, label, path, findings)
        except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
            findings.broken(error, f"{path}@{index}")


def _attribute(attribute: Any, name: str, path: str, findings: Hdf5Findings) -> None:
    import h5py

    inner = f"{path}@{quoted(name, 60)}"
    tid = attribute.get_type()
    points = attribute.get_space().get_simple_extent_npoints()
    # The library takes the size of an empty attribute for an error.
    size = attribute.get_storage_size() if points else 0
    if size > findings.collector.limits.document or points > 2**24:
        findings.add("scan.hdf5.attribute", f"The attribute has {max(size, points)} bytes.", inner)
        return
    if problem := type_problem(tid):
        rule = "scan.hdf5.reference" if "reference" in problem else "scan.hdf5.type"
        findings.add(rule, f"The attribute is {problem}.", inner)
        return
    if not isinstance(tid, h5py.h5t.TypeStringID):
        if path == "/" and name in CONFIGS:
            findings.add("scan.keras.malformed", "The configuration is no text.", inner)
        return
    texts = _texts(attribute, points)
    for text in texts:
        if len(text) > findings.collector.limits.document:
            findings.add("scan.hdf5.attribute", f"The text has {len(text)} bytes.", inner)
        elif path == "/" and name in CONFIGS:
            _config(text, name, findings)
        elif kind := code_kind(text.decode("utf-8", "backslashreplace")):
            findings.add("scan.keras.code", f"The text holds {kind}.", inner, kind=kind)


def _config(text: bytes, name: str, findings: Hdf5Findings) -> None:
    place = findings.place.inside(name)
    document = read_json(text, place, findings.collector)
    if document is None:
        return
    if not isinstance(document, dict):
        findings.collector.add("scan.keras.malformed", "The configuration is no object.", place)
        return
    findings.contents.has_config = findings.contents.has_config or name == "model_config"
    findings.contents.declared += inspect_config(document, place, findings.collector, legacy=True)


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
