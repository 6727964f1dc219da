"""The protocol buffers of a SavedModel, as far as the scan reads them.

The descriptors stand in a pool of their own, so that they cannot clash with TensorFlow's, and
fields that are not listed are skipped. Field numbers are those of TensorFlow's public `.proto`
files (`saved_model.proto`, `meta_graph.proto`, `graph.proto`, `function.proto`, `node_def.proto`,
`attr_value.proto`, `tensor.proto`, `op_def.proto`, `saved_object_graph.proto`,
`saved_metadata.proto`, `tensor_bundle.proto`).
"""

import functools
from typing import Any

_PACKAGE = "scan"

# message: {field: (number, type, repeated)}; a type that is a message is given by its name.
_MESSAGES: dict[str, dict[str, tuple[int, str, bool]]] = {
    "SavedModel": {"schema_version": (1, "int64", False), "meta_graphs": (2, "MetaGraph", True)},
    "MetaGraph": {
        "meta_info": (1, "MetaInfo", False),
        "graph": (2, "Graph", False),
        "saver": (3, "Saver", False),
        "collections": (4, "CollectionEntry", True),
        "assets": (6, "Asset", True),
        "objects": (7, "ObjectGraph", False),
    },
    "MetaInfo": {
        "ops": (2, "OpList", False),
        "tags": (4, "string", True),
        "version": (5, "string", False),
    },
    "OpList": {"op": (1, "OpDef", True)},
    "OpDef": {
        "name": (1, "string", False),
        "input": (2, "Argument", True),
        "output": (3, "Argument", True),
    },
    "Argument": {"name": (1, "string", False)},
    "Saver": {"filename": (1, "string", False)},
    "Asset": {"tensor_info": (1, "TensorInfo", False), "filename": (2, "string", False)},
    "TensorInfo": {"name": (1, "string", False)},
    "CollectionEntry": {"key": (1, "string", False), "value": (2, "Collection", False)},
    "Collection": {
        "nodes": (1, "Strings", False),
        "blobs": (2, "Blobs", False),
        "any": (5, "Anys", False),
    },
    "Strings": {"value": (1, "string", True)},
    "Blobs": {"value": (1, "bytes", True)},
    "Anys": {"value": (1, "Any", True)},
    "Any": {"type_url": (1, "string", False), "value": (2, "bytes", False)},
    "Graph": {"nodes": (1, "Node", True), "library": (2, "Library", False)},
    "Library": {"functions": (1, "Function", True)},
    "Function": {
        "signature": (1, "OpDef", False),
        "nodes": (3, "Node", True),
        "attr": (5, "AttrEntry", True),
    },
    "Node": {
        "name": (1, "string", False),
        "op": (2, "string", False),
        "input": (3, "string", True),
        "device": (4, "string", False),
        "attr": (5, "AttrEntry", True),
    },
    "AttrEntry": {"key": (1, "string", False), "value": (2, "Attr", False)},
    "Attr": {
        "list": (1, "AttrList", False),
        "s": (2, "bytes", False),
        "tensor": (8, "Tensor", False),
        "func": (10, "Callee", False),
    },
    "AttrList": {
        "s": (2, "bytes", True),
        "tensor": (8, "Tensor", True),
        "func": (9, "Callee", True),
    },
    "Callee": {"name": (1, "string", False), "attr": (2, "AttrEntry", True)},
    "Tensor": {
        "dtype": (1, "int32", False),
        "shape": (2, "Shape", False),
        "content": (4, "bytes", False),
        "string_val": (8, "bytes", True),
    },
    "ObjectGraph": {
        "nodes": (1, "Object", True),
        "concrete_functions": (2, "ConcreteEntry", True),
    },
    "ConcreteEntry": {"key": (1, "string", False), "value": (2, "Concrete", False)},
    "Concrete": {"bound_inputs": (2, "int32", True)},
    "Object": {
        "user_object": (4, "UserObject", False),
        "asset": (5, "AssetObject", False),
        "variable": (7, "VariableObject", False),
        "constant": (9, "ConstantObject", False),
        "captured_tensor": (12, "CapturedTensor", False),
        "registered_name": (13, "string", False),
    },
    "UserObject": {"identifier": (1, "string", False), "metadata": (3, "string", False)},
    "VariableObject": {"dtype": (1, "int32", False)},
    "ConstantObject": {"operation": (1, "string", False)},
    "CapturedTensor": {"name": (1, "string", False)},
    "AssetObject": {"index": (1, "int32", False)},
    "SavedMetadata": {"nodes": (1, "MetadataNode", True)},
    "MetadataNode": {
        "node_id": (2, "int32", False),
        "node_path": (3, "string", False),
        "identifier": (4, "string", False),
        "metadata": (5, "string", False),
    },
    "BundleHeader": {"num_shards": (1, "int32", False), "endianness": (2, "int32", False)},
    "BundleEntry": {
        "dtype": (1, "int32", False),
        "shape": (2, "Shape", False),
        "shard_id": (3, "int32", False),
        "offset": (4, "int64", False),
        "size": (5, "int64", False),
        "slices": (7, "Slice", True),
    },
    "Slice": {},
    "Shape": {"dim": (2, "Dimension", True), "unknown_rank": (3, "bool", False)},
    "Dimension": {"size": (1, "int64", False)},
}
_SCALARS = {"int64": 3, "int32": 5, "bool": 8, "string": 12, "bytes": 12}


class MalformedMessage(Exception):
    """The bytes are no such message."""


def parse_message(name: str, data: bytes) -> Any:
    """Parses a protocol buffer.

    Strings are kept as bytes, since nothing makes a hostile file's valid UTF-8.

    Args:
        name: A key of the table above, for example `"SavedModel"`.
        data: The serialized message.

    Returns:
        The message.

    Raises:
        MalformedMessage: The bytes are no such message, or are nested too deep.

    Example:

    >>> parse_message("Callee", b"\\n\\x03abc").name
    b'abc'
    """
    from google.protobuf.message import DecodeError

    message = _classes()[name]()
    try:
        message.ParseFromString(data)
    except (DecodeError, RecursionError, ValueError) as error:
        raise MalformedMessage(str(error)) from error
    return message


@functools.cache
def _classes() -> dict[str, Any]:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(
        name="keras_secure_scan.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            scalar = _SCALARS.get(kind)
            added = message.field.add(
                name=field,
                number=number,
                type=scalar or descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
                label=3 if repeated else 1,
            )
            if scalar is None:
                added.type_name = f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }
