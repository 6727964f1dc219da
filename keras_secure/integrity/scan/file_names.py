"""File names that a graph hands to its own file operations, traced back to constants.

Every exported model saves and restores its variables, under a name that comes from outside. A
name that is a constant of the graph is another matter: the model reads or writes where its author
wanted. Names are followed backwards through operations on strings, and through calls of functions.
"""

from collections.abc import Callable, Iterator
from typing import Any

from keras_secure.integrity.scan.strings import location_kind
from keras_secure.integrity.scan.tensorflow_ops import CHECKPOINT_OPS

_FILE_INPUT = {"InitializeTableFromTextFile": 1, "InitializeTableFromTextFileV2": 1}
_WIDEST = 100_000


def fixed_file_names(graph: Any, tick: Callable[[], None]) -> Iterator[tuple[str, str, str]]:
    """Finds constants that reach the file name of an operation which saves or restores.

    Args:
        graph: A `Graph` message.
        tick: Called often; raises to end a search that takes too long.

    Yields:
        `(place, operation, name)` for names that are absolute, remote or lead upwards.
    """
    bodies = {"": _Body(graph.nodes, [])}
    for function in graph.library.functions:
        arguments = [argument.name for argument in function.signature.input]
        bodies[function.signature.name.decode("utf-8", "replace")] = _Body(
            function.nodes, arguments
        )
    # Which arguments of which function end up as file names, found by following calls upwards.
    sinks: set[tuple[str, int]] = set()
    grown = True
    reported: set[tuple[str, str, str]] = set()
    while grown:
        grown = False
        for name, body in bodies.items():
            tick()
            for op, reference in body.file_inputs(sinks):
                tick()
                constants, arguments = body.sources(reference)
                for text in constants:
                    found = (name or "graph", op, text)
                    if location_kind(text) and found not in reported:
                        reported.add(found)
                        yield found
                for index in arguments:
                    if (name, index) not in sinks:
                        sinks.add((name, index))
                        grown = True


class _Body:
    def __init__(self, nodes: Any, arguments: list[bytes]):
        self.nodes = {node.name: node for node in nodes}
        self.arguments = {name: index for index, name in enumerate(arguments)}
        self.files = [
            node for node in nodes if node.op.decode("utf-8", "replace") in CHECKPOINT_OPS
        ]
        self.calls = [(node, callees) for node in nodes if (callees := _callees(node))]

    def file_inputs(self, sinks: set[tuple[str, int]]) -> Iterator[tuple[str, bytes]]:
        for node in self.files:
            op = node.op.decode("utf-8", "replace")
            inputs = [i for i in node.input if not i.startswith(b"^")]
            position = _FILE_INPUT.get(op, 0)
            if op == "MergeV2Checkpoints":
                yield from ((op, i) for i in inputs[:2])
            elif position < len(inputs):
                yield op, inputs[position]
        for node, callees in self.calls:
            inputs = [i for i in node.input if not i.startswith(b"^")]
            # A condition or an index stands before the arguments of branches.
            shift = 1 if node.op in (b"If", b"StatelessIf", b"Case", b"StatelessCase") else 0
            for callee in callees:
                for index, reference in enumerate(inputs[shift:]):
                    if (callee, index) in sinks:
                        yield node.op.decode("utf-8", "replace"), reference

    def sources(self, reference: bytes) -> tuple[list[str], list[int]]:
        constants: list[str] = []
        arguments: list[int] = []
        stack = [reference]
        seen: set[bytes] = set()
        while stack and len(seen) < _WIDEST:
            name = stack.pop().lstrip(b"^").split(b":")[0]
            if name in seen:
                continue
            seen.add(name)
            if name in self.arguments:
                arguments.append(self.arguments[name])
            node = self.nodes.get(name)
            if node is None:
                continue
            if node.op == b"Const":
                for entry in node.attr:
                    for value in entry.value.tensor.string_val:
                        constants.append(value.decode("utf-8", "replace"))
            elif node.op != b"Placeholder":
                stack.extend(node.input)
        return constants, arguments


def _callees(node: Any) -> list[str]:
    found = []
    for entry in node.attr:
        for callee in (entry.value.func, *entry.value.list.func):
            if callee.name:
                found.append(callee.name.decode("utf-8", "replace"))
    return found
