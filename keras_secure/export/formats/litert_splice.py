"""One LiteRT graph inside another."""

from typing import Any

from keras_secure.errors import InputError

IDENTIFIER = b"TFL3"


def read_model(data: bytes) -> Any:
    """The objects of a LiteRT file."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(data, 0)


def write_model(model: Any) -> bytes:
    """The LiteRT file of such objects."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def spliced(outer: bytes, inner: bytes, into: str, out_of: str) -> bytes:
    """Puts a graph into the hole of another.

    Args:
        outer: A file with a further output `into`, and a further input `out_of` in its place.
        inner: A file with one input and one output, which go there.
        into: Name of what the inner graph takes.
        out_of: Name of what it gives.

    Returns:
        The bytes of one file with neither of these two.

    Raises:
        InputError: The inner graph has branches or loops.
    """
    model, guest = read_model(outer), read_model(inner)
    if len(model.subgraphs) != 1 or len(guest.subgraphs) != 1:
        raise InputError(
            "A model with branches or loops cannot be quantized together with its activations. "
            "Leave out `calibration`."
        )
    graph, hosted = model.subgraphs[0], guest.subgraphs[0]
    signature = model.signatureDefs[0]
    source = _take(signature.outputs, into)
    target = _take(signature.inputs, out_of)
    graph.inputs = [index for index in graph.inputs if index != target]
    kept = {entry.tensorIndex for entry in signature.outputs}
    graph.outputs = [index for index in graph.outputs if index != source or index in kept]
    tensors = {int(hosted.inputs[0]): source, int(hosted.outputs[0]): target}
    for index, tensor in enumerate(hosted.tensors):
        if index not in tensors:
            tensors[index] = len(graph.tensors)
            tensor.buffer = _moved(model, guest, tensor.buffer)
            graph.tensors.append(tensor)
    first = len(model.operatorCodes)
    model.operatorCodes.extend(guest.operatorCodes)
    for operator in hosted.operators:
        operator.opcodeIndex += first
        operator.inputs = [tensors.get(int(index), -1) for index in operator.inputs]
        operator.outputs = [tensors[int(index)] for index in operator.outputs]
    graph.operators = _ordered(graph, [*graph.operators, *hosted.operators])
    return write_model(model)


def _take(entries: list[Any], name: str) -> int:
    """Removes an entry of a signature and returns the tensor it names."""
    entry = next(entry for entry in entries if entry.name == name.encode())
    entries.remove(entry)
    return int(entry.tensorIndex)


def _moved(model: Any, guest: Any, number: int) -> int:
    """The number of a buffer in the other model; 0 is the empty one in both."""
    if number == 0:
        return 0
    model.buffers.append(guest.buffers[number])
    return len(model.buffers) - 1


def _ordered(graph: Any, operators: list[Any]) -> list[Any]:
    """Operators such that each follows those whose results it takes: LiteRT runs them in turn."""
    made = {int(index) for operator in operators for index in operator.outputs}
    ready = set(range(len(graph.tensors))) - made | {-1}
    ordered: list[Any] = []
    waiting = operators
    while waiting:
        runnable = [o for o in waiting if all(int(index) in ready for index in o.inputs)]
        if not runnable:
            raise AssertionError("the spliced graph has a cycle")
        for operator in runnable:
            ready.update(int(index) for index in operator.outputs)
        ordered += runnable
        taken = {id(operator) for operator in runnable}
        waiting = [operator for operator in waiting if id(operator) not in taken]
    return ordered
