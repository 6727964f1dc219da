"""File names that a graph hands to its own file operations, traced back to where they come from.

Every exported model saves and restores its variables, under a name that comes from outside and to
which savers add a few letters. A name that the graph itself holds or puts together is another
matter: the model reads or writes where its author wanted. Names are followed backwards through the
operations that savers use, and through calls of functions; any other operation on the way is told.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

from keras_secure.integrity.scan.saved_model_messages import MalformedMessage, parse_message
from keras_secure.integrity.scan.strings import location_kind
from keras_secure.integrity.scan.tensorflow_ops import CACHE_OPS, CHECKPOINT_OPS

_FILE_INPUT = {
    "InitializeTableFromTextFile": 1,
    "InitializeTableFromTextFileV2": 1,
    "CacheDataset": 1,
    "CacheDatasetV2": 1,
}
_OUTSIDE = frozenset({"Placeholder", "PlaceholderV2", "PlaceholderWithDefault"})
# What savers write between a name from outside and the operation that takes it.
_PASSING = frozenset(
    [
        *("ConcatV2", "Const", "Enter", "Exit", "ExpandDims", "Fill", "Identity", "IdentityN"),
        *("Merge", "NextIteration", "Pack", "PlaceholderWithDefault", "RefIdentity", "Reshape"),
        *("Select", "SelectV2", "ShardedFilename", "ShardedFilespec", "Squeeze", "StringJoin"),
        *("StaticRegexFullMatch", "StridedSlice", "Switch", "Unpack"),
    ]
)
_ADDED = re.compile(r"\.?[\w\-]+(?:/[\w\-]+)?")
_CONDITIONS = (b"If", b"StatelessIf", b"Case", b"StatelessCase")
_CALLS = (b"PartitionedCall", b"StatefulPartitionedCall", b"While", b"StatelessWhile")
_WIDEST = 100_000


def fixed_file_names(meta_graph: Any, tick: Callable[[], None]) -> Iterator[tuple[str, str, str]]:
    """Finds names of files that do not come from outside.

    Args:
        meta_graph: A `MetaGraph` message.
        tick: Called often; raises to end a search that takes too long.

    Yields:
        `(place, operation, name)`, where the name is what the graph holds of it, or in brackets the
        operation that makes it.
    """
    fed = {_name(asset.tensor_info.name) for asset in asset_files(meta_graph)}
    fed.add(_name(meta_graph.saver.filename))
    graph = meta_graph.graph
    bodies = {"": _Body(graph.nodes, [], fed)}
    for function in graph.library.functions:
        arguments = [argument.name for argument in function.signature.input]
        bodies[_text(function.signature.name)] = _Body(function.nodes, arguments, set())
    for body in bodies.values():
        body.find_calls(bodies)
    # Which arguments of which function end up as file names, found by following calls upwards.
    sinks: set[tuple[str, int]] = set()
    reported: set[tuple[str, str, str]] = set()
    grown = True
    while grown:
        grown = False
        for name, body in bodies.items():
            tick()
            for op, reference in body.file_inputs(sinks):
                tick()
                source = body.source(reference)
                for text in source.problems(op):
                    found = (name or "graph", op, text)
                    if found not in reported:
                        reported.add(found)
                        yield found
                for index in source.arguments:
                    if (name, index) not in sinks:
                        sinks.add((name, index))
                        grown = True
    yield from _bound(meta_graph.objects, bodies, sinks, tick)


def asset_files(meta_graph: Any) -> Iterator[Any]:
    """The files of its own that a model names, in the places of TensorFlow 2 and of 1.

    Args:
        meta_graph: A `MetaGraph` message.

    Yields:
        `Asset` messages; what cannot be parsed is left out.
    """
    yield from meta_graph.assets
    for entry in meta_graph.collections:
        if entry.key == b"saved_model_assets":
            for item in entry.value.any.value:
                with contextlib.suppress(MalformedMessage):
                    yield parse_message("Asset", item.value)


def _bound(
    objects: Any, bodies: dict[str, "_Body"], sinks: set[tuple[str, int]], tick: Callable[[], None]
) -> Iterator[tuple[str, str, str]]:
    """Names that a function is bound to: the last of its arguments, given by the object graph."""
    for entry in objects.concrete_functions:
        tick()
        name, bound = _text(entry.key), list(entry.value.bound_inputs)
        body = bodies.get(name)
        if body is None:
            continue
        first = len(body.arguments) - len(bound)
        for index, number in enumerate(bound):
            if (name, first + index) not in sinks or not 0 <= number < len(objects.nodes):
                continue
            item = objects.nodes[number]
            if item.constant.operation:
                for text in bodies[""].source(item.constant.operation).problems("bound"):
                    yield name, "bound", text
            elif item.captured_tensor.name or item.HasField("variable"):
                yield name, "bound", "(a value that the model keeps)"


class _Source:
    """Where a name comes from.

    Args:
        constants: Texts of the graph that take part in it.
        arguments: Indices of the function's arguments that do.
        outside: Whether a value that is fed does.
        makers: Operations that savers do not use.
    """

    def __init__(self):
        self.constants: list[str] = []
        self.arguments: list[int] = []
        self.outside = False
        self.makers: list[str] = []

    def problems(self, op: str) -> Iterator[str]:
        """What is wrong with it as the name of a file for `op`."""
        given = self.outside or self.arguments
        for text in self.constants:
            if text and (location_kind(text) or not given or not _ADDED.fullmatch(text)):
                yield text
        if op in CACHE_OPS and given:
            yield "(a file for a cache)"
        yield from (f"(made by {maker})" for maker in self.makers)


class _Body:
    def __init__(self, nodes: Any, arguments: list[bytes], fed: set[bytes]):
        self.nodes = {node.name: node for node in nodes}
        self.arguments = {name: index for index, name in enumerate(arguments)}
        self.fed = fed - {b""}
        self.files = [
            node for node in nodes if (op := _text(node.op)) in CHECKPOINT_OPS or op in CACHE_OPS
        ]
        self.calls: list[tuple[Any, list[str]]] = []
        self.assigned: dict[bytes, list[bytes]] = {}
        for node in nodes:
            if node.op == b"AssignVariableOp" and len(node.input) > 1:
                self.assigned.setdefault(_name(node.input[0]), []).append(node.input[1])

    def find_calls(self, bodies: dict[str, "_Body"]) -> None:
        for node in self.nodes.values():
            callees = [name for name in _callees(node) if name in bodies]
            if callees:
                self.calls.append((node, callees))

    def file_inputs(self, sinks: set[tuple[str, int]]) -> Iterator[tuple[str, bytes]]:
        for node in self.files:
            op = _text(node.op)
            inputs = [i for i in node.input if not i.startswith(b"^")]
            position = _FILE_INPUT.get(op, 0)
            if op == "MergeV2Checkpoints":
                yield from ((op, i) for i in inputs[:2])
            elif position < len(inputs):
                yield op, inputs[position]
        for node, callees in self.calls:
            inputs = [i for i in node.input if not i.startswith(b"^")]
            op = _text(node.op)
            # A condition or an index stands before the arguments of branches.
            shift = 1 if node.op in _CONDITIONS else 0
            direct = shift or node.op in _CALLS or op in callees
            for callee in callees:
                for index, reference in enumerate(inputs[shift:]):
                    if (callee, index) in sinks:
                        yield op, reference
                # Of datasets and the like, which input becomes which argument is their affair.
                if not direct and any(function == callee for function, _ in sinks):
                    yield from ((op, reference) for reference in inputs)

    def source(self, reference: bytes) -> _Source:
        found = _Source()
        stack = [reference]
        seen: set[bytes] = set()
        while stack and len(seen) < _WIDEST:
            name = _name(stack.pop())
            # What only has to happen before gives no letters.
            if name in seen or name.startswith(b"^"):
                continue
            seen.add(name)
            if name in self.arguments:
                found.arguments.append(self.arguments[name])
            node = self.nodes.get(name)
            if node is None:
                continue
            op = _text(node.op)
            values = self.assigned.get(_name(node.input[0])) if node.input else None
            if op == "ReadVariableOp" and values:
                # So exports hold the path of an asset, which is fed.
                stack += values
                continue
            if name in self.fed or op in _OUTSIDE:
                found.outside = True
            if op == "Const" and name not in self.fed:
                found.constants += _texts(node)
            elif op not in _PASSING and op not in _OUTSIDE:
                found.makers.append(op)
            stack.extend(node.input)
        return found


def _texts(node: Any) -> Iterator[str]:
    for entry in node.attr:
        tensor = entry.value.tensor
        yield from map(_text, tensor.string_val)
        if tensor.dtype == 7 and tensor.content:
            # Strings in a form that savers do not use: their lengths, then their letters.
            yield _text(tensor.content.lstrip(bytes(range(32))))


def _callees(node: Any) -> list[str]:
    found = [_text(node.op)]
    for entry in node.attr:
        for callee in (entry.value.func, *entry.value.list.func):
            if callee.name:
                found.append(_text(callee.name))
    return found


def _name(reference: bytes) -> bytes:
    return reference.split(b":")[0]


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
