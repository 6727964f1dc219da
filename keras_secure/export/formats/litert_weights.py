"""Quantized kernels as integers inside a LiteRT file."""

from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import Any

import numpy as np

from keras_secure.compression import QuantizedWeight
from keras_secure.export.formats.litert_splice import read_model, write_model
from keras_secure.export.formats.packing import pack_pairs

# Of the operator, as LiteRT counts them: the first that takes a scale for each channel, and the
# first that takes 4 bits.
_VERSION, _VERSION_WITH_INT4 = 5, 6
_ROUNDING = 2.0**-21


def with_integers(data: bytes, weights: Mapping[str, QuantizedWeight]) -> bytes:
    """Stores the kernels of a LiteRT file as integers times scales.

    The converter writes every kernel as float32, in an order of axes of its own, and may multiply
    a batch normalization into it, which changes scales only. So kernels are found by what they
    hold. Each becomes a tensor of integers behind a `DEQUANTIZE` that the runtime computes once.

    Args:
        data: The bytes of a LiteRT file.
        weights: What `keras_secure.compression.quantized_weights` says.

    Returns:
        The bytes of the smaller file, the same if nothing is quantized.
    """
    if not weights:
        return data
    from ai_edge_litert import schema_py_generated as schema

    model = read_model(data)
    changed = [_replace(model, graph, schema, weights) for graph in model.subgraphs]
    if not any(changed):
        return data
    _drop_unused(model)
    return write_model(model)


def _replace(model: Any, graph: Any, schema: Any, weights: Mapping[str, QuantizedWeight]) -> bool:
    operators = []
    for index, tensor in enumerate(list(graph.tensors)):
        buffer = model.buffers[tensor.buffer].data
        if tensor.type != schema.TensorType.FLOAT32 or buffer is None or len(buffer) < 4:
            continue
        held = np.frombuffer(bytes(buffer), np.float32).reshape(tensor.shape)
        found = next(_matches(held, weights), None)
        if found is None:
            continue
        values, scale, axis, bits = found
        small = schema.TensorT()
        small.name = bytes(tensor.name) + b"/integers"
        small.shape = tensor.shape
        small.type = schema.TensorType.INT4 if bits <= 4 else schema.TensorType.INT8
        small.buffer = len(model.buffers)
        small.quantization = schema.QuantizationParametersT()
        small.quantization.scale = scale
        small.quantization.zeroPoint = np.zeros(len(scale), np.int64)
        small.quantization.quantizedDimension = axis
        holder = schema.BufferT()
        holder.data = np.frombuffer(pack_pairs(values) if bits <= 4 else values.tobytes(), np.uint8)
        model.buffers.append(holder)
        tensor.buffer = 0
        operator = schema.OperatorT()
        operator.opcodeIndex = _opcode(model, schema, bits)
        operator.inputs, operator.outputs = [len(graph.tensors)], [index]
        graph.tensors.append(small)
        operators.append(operator)
    graph.operators[:0] = operators
    return bool(operators)


def _matches(
    held: np.ndarray, weights: Mapping[str, QuantizedWeight]
) -> Iterator[tuple[np.ndarray, np.ndarray, int, int]]:
    """Integers, scales, axis and bits of what is a quantized kernel in some order of its axes."""
    for weight in weights.values():
        if weight.values.size != held.size:
            continue
        shape = [1] * weight.values.ndim
        shape[weight.axis] = -1
        count = weight.values.shape[weight.axis]
        channels = np.broadcast_to(np.arange(count).reshape(shape), weight.values.shape)
        for order in permutations(range(weight.values.ndim)):
            values = weight.values.transpose(order)
            # Axes may become one on the way: heads and their sizes, channels and their multiples.
            values = values.reshape(held.shape)
            places = channels.transpose(order).reshape(held.shape)
            axis = _axis_of(places, values.ndim)
            if axis is None:
                continue
            places = places.min(axis=tuple(a for a in range(values.ndim) if a != axis))
            found = _rescaled(values, weight.scale.reshape(-1)[places], held, axis, weight.bits)
            if found is not None:
                yield *found, axis, weight.bits


def _axis_of(places: np.ndarray, rank: int) -> int | None:
    """The axis along which alone the channel changes."""
    for axis in range(rank):
        others = tuple(a for a in range(rank) if a != axis)
        if (places.min(axis=others) == places.max(axis=others)).all():
            return axis
    return None


def _rescaled(
    values: np.ndarray, scale: np.ndarray, held: np.ndarray, axis: int, bits: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Integers and positive scales that give `held`, None where nothing does.

    These are the given ones, unless the converter multiplied each channel by something.
    """
    integers = np.moveaxis(values, axis, 0)
    rows = integers.reshape(len(integers), -1).astype(np.float32)
    floats = np.moveaxis(held, axis, 0).reshape(len(rows), -1)
    if (rows * scale[:, None] == floats).all():
        return values, scale
    numbers, largest = np.arange(len(rows)), np.abs(rows).argmax(axis=1)
    top = rows[numbers, largest]
    factors = floats[numbers, largest] / np.where(top == 0, np.float32(1), top)
    factors = np.where(top == 0, np.float32(1), factors).astype(np.float32)
    off = np.abs(rows * factors[:, None] - floats)
    if (off > _ROUNDING * np.abs(floats)).any() or (factors == 0).any():
        return None
    # Scales have to be positive; the lowest integer has no opposite.
    turned = np.sign(factors).astype(np.int16)
    integers = np.moveaxis(values.astype(np.int16), axis, -1) * turned
    if integers.max() > (7 if bits <= 4 else 127):
        return None
    return np.moveaxis(integers, -1, axis).astype(np.int8), np.abs(factors)


def _opcode(model: Any, schema: Any, bits: int) -> int:
    version = _VERSION_WITH_INT4 if bits <= 4 else _VERSION
    kind = schema.BuiltinOperator.DEQUANTIZE
    for number, code in enumerate(model.operatorCodes):
        if (code.builtinCode, code.version) == (kind, version):
            return number
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = kind
    code.version = version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _drop_unused(model: Any) -> None:
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    used |= {entry.buffer for entry in model.metadata or []}
    for number, buffer in enumerate(model.buffers):
        if number not in used:
            buffer.data = None
