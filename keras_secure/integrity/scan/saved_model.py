"""SavedModel folders: what the graph's operations do outside it, and which files it names."""

from collections.abc import Iterator
from typing import Any

from keras_secure.integrity.scan import tensorflow_ops
from keras_secure.integrity.scan.collector import Collector
from keras_secure.integrity.scan.file_names import asset_files, fixed_file_names
from keras_secure.integrity.scan.json_document import read_json
from keras_secure.integrity.scan.keras_config import inspect_config
from keras_secure.integrity.scan.names import name_problem
from keras_secure.integrity.scan.place import Place, quoted
from keras_secure.integrity.scan.region import Region
from keras_secure.integrity.scan.saved_model_messages import MalformedMessage, parse_message
from keras_secure.integrity.scan.strings import code_kind, location_kind

LARGEST_GRAPH = 256 * 2**20
_STANDARD_STREAMS = (b"", b"stderr", b"stdout", b"log(info)", b"log(warning)", b"log(error)")
_PRINTED = (b"stderr", b"stdout", b"log(")


def inspect_saved_model(data: Region, place: Place, collector: Collector) -> None:
    """Checks a `saved_model.pb`.

    Args:
        data: The file.
        place: Where it stands.
        collector: Takes the findings.
    """
    limit = min(LARGEST_GRAPH, collector.limits.memory // 4)
    if data.size > limit:
        collector.add(
            "scan.savedmodel.malformed",
            f"The graph has {data.size} bytes; at most {limit} are read.",
            place,
        )
        return
    try:
        model = parse_message("SavedModel", data.at(0, data.size))
    except MalformedMessage as error:
        collector.add(
            "scan.savedmodel.malformed", f"The graph cannot be parsed: {quoted(str(error))}.", place
        )
        return
    if not model.meta_graphs:
        collector.add("scan.savedmodel.malformed", "The file holds no graph.", place)
    for number, meta_graph in enumerate(model.meta_graphs):
        inner = place if len(model.meta_graphs) == 1 else place.inside(f"graph {number}")
        _inspect_meta_graph(meta_graph, inner, collector)


def inspect_keras_metadata(data: Region, place: Place, collector: Collector) -> None:
    """Checks a `keras_metadata.pb`, in which Keras 2 keeps the configurations of layers.

    Args:
        data: The file.
        place: Where it stands.
        collector: Takes the findings.
    """
    if data.size > collector.limits.document:
        collector.add("scan.json.size", f"The file has {data.size} bytes.", place)
        return
    try:
        metadata = parse_message("SavedMetadata", data.at(0, data.size))
    except MalformedMessage as error:
        collector.add(
            "scan.savedmodel.malformed", f"The file cannot be parsed: {quoted(str(error))}.", place
        )
        return
    for node in metadata.nodes:
        _inspect_metadata(node.metadata, place.inside(_text(node.node_path) or "root"), collector)


def _inspect_metadata(text: bytes, place: Place, collector: Collector) -> None:
    collector.tick()
    if not text.strip():
        return
    document = read_json(text, place, collector)
    if document is not None:
        inspect_config(document, place, collector, legacy=True)


def _inspect_meta_graph(meta_graph: Any, place: Place, collector: Collector) -> None:
    functions = meta_graph.graph.library.functions
    defined = {_text(function.signature.name) for function in functions}
    _inspect_nodes(meta_graph.graph.nodes, defined, place, collector)
    for function in functions:
        inner = place.inside(_text(function.signature.name))
        _inspect_nodes(function.nodes, defined, inner, collector)
        _inspect_attributes(function.attr, inner, collector)
    for op in meta_graph.meta_info.ops.op:
        _inspect_op(_text(op.name), "", defined, place.inside("list of operations"), collector)
    for where, op_name, text in fixed_file_names(meta_graph, collector.tick):
        collector.add(
            "scan.savedmodel.path",
            f"A file's name does not come from outside: {op_name} is given {quoted(text)!r}.",
            place.inside(where),
            target=text,
        )
    for asset in asset_files(meta_graph):
        name = _text(asset.filename)
        if problem := name_problem(name):
            collector.add(
                "scan.savedmodel.asset", f"The asset's name {quoted(name)!r} {problem}.", place
            )
    for entry in meta_graph.collections:
        _inspect_collection(entry, place, collector)
    for index, node in enumerate(meta_graph.objects.nodes):
        collector.tick()
        if node.user_object.metadata:
            _inspect_metadata(node.user_object.metadata, place.inside(f"object {index}"), collector)


def _inspect_nodes(nodes: Any, defined: set[str], place: Place, collector: Collector) -> None:
    for node in nodes:
        collector.tick()
        op, inner = _text(node.op), place.inside(_text(node.name))
        _inspect_op(op, _text(node.name), defined, inner, collector)
        if op == "PrintV2":
            _inspect_print(node, inner, collector)
        job = _remote_job(_text(node.device))
        if job:
            collector.add(
                "scan.savedmodel.device", f"The operation is bound to {quoted(job)!r}.", inner
            )
        _inspect_attributes(node.attr, inner, collector)


def _inspect_op(op: str, name: str, defined: set[str], place: Place, collector: Collector) -> None:
    if op in tensorflow_ops.COMPUTING_OPS or op in tensorflow_ops.CHECKPOINT_OPS:
        return
    if op == "PrintV2":
        return
    label = f"{quoted(name)} ({quoted(op)})" if name else quoted(op)
    if op in collector.allow:
        collector.add("scan.savedmodel.allowed", f"{label} was allowed.", place, op=op)
        return
    for ops, rule, what in (
        (tensorflow_ops.PYTHON_OPS, "scan.savedmodel.python_op", "runs Python code"),
        (tensorflow_ops.FILE_OPS, "scan.savedmodel.file_op", "reads or writes files"),
        (tensorflow_ops.NETWORK_OPS, "scan.savedmodel.network_op", "talks to others"),
        (tensorflow_ops.RARE_OPS, "scan.savedmodel.rare_op", "has no place in an exported model"),
    ):
        if op in ops:
            collector.add(rule, f"The operation {label} {what}.", place, op=op)
            return
    if op in defined:
        return
    collector.add(
        "scan.savedmodel.custom_op", f"TensorFlow has no operation {label}.", place, op=op
    )


def _inspect_print(node: Any, place: Place, collector: Collector) -> None:
    for entry in node.attr:
        if _text(entry.key) == "output_stream":
            target = entry.value.s
            if target not in _STANDARD_STREAMS and not target.startswith(_PRINTED):
                collector.add(
                    "scan.savedmodel.file_op",
                    f"The operation prints to {quoted(target)!r}.",
                    place,
                    op="PrintV2",
                    target=target,
                )


def _inspect_attributes(attributes: Any, place: Place, collector: Collector) -> None:
    for entry in attributes:
        key = _text(entry.key)
        for tensor in (entry.value.tensor, *entry.value.list.tensor):
            _inspect_tensor(tensor, place, collector)
        for value in (entry.value.s, *entry.value.list.s):
            if not value:
                continue
            text = _text(value)
            if kind := code_kind(text):
                collector.add(
                    "scan.keras.code",
                    f"The attribute {quoted(key)} holds {kind}.",
                    place,
                    kind=kind,
                )
            elif _names_file(key, text) or (key not in _NAMES_OF_RESOURCES and location_kind(text)):
                collector.add(
                    "scan.savedmodel.path",
                    f"The attribute {quoted(key)} names {quoted(text)!r}.",
                    place,
                    target=text,
                )


def _names_file(key: str, text: str) -> bool:
    """Whether an attribute of operations that may read a file says that they shall."""
    if key == "descriptor_source":
        return not text.startswith(("local://", "bytes://"))
    return key == "vocab_file"


def _inspect_tensor(tensor: Any, place: Place, collector: Collector) -> None:
    values = 1
    for dimension in tensor.shape.dim:
        values = min(values * max(0, dimension.size), 2**62)
    # One value may stand for all of a constant, however large its shape is.
    if values > collector.limits.parameters and values > tensor.ByteSize():
        collector.add(
            "scan.savedmodel.bomb",
            f"A constant of {values} values is declared by {tensor.ByteSize()} bytes.",
            place,
            declared=values,
        )


_NAMES_OF_RESOURCES = frozenset(
    [
        *("_class", "container", "descriptor_source", "message", "output_stream", "pattern"),
        *("rewrite", "shared_name"),
    ]
)


def _inspect_collection(entry: Any, place: Place, collector: Collector) -> None:
    key = _text(entry.key)
    inner = place.inside(f"collection {quoted(key, 60)}")
    for value in _collected(entry.value):
        collector.tick()
        text = _text(value)
        if kind := code_kind(text):
            collector.add("scan.keras.code", f"The collection holds {kind}.", inner, kind=kind)
        elif location_kind(text):
            collector.add(
                "scan.savedmodel.path",
                f"The collection names {quoted(text)!r}.",
                inner,
                target=text,
            )


def _collected(value: Any) -> Iterator[bytes]:
    yield from value.nodes.value
    yield from value.blobs.value
    for item in value.any.value:
        yield item.value


def _remote_job(device: str) -> str:
    job = device.partition("/job:")[2].split("/")[0]
    return "" if job in ("", "localhost") else job


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
