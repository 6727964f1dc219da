"""The calls that make up a model, in an order that depends on structure and on no name."""

from dataclasses import dataclass
from typing import Any

import keras

# Operations whose arguments may change places.
_COMMUTATIVE = ("Add", "Average", "Maximum", "Minimum", "Multiply")


@dataclass(frozen=True)
class Call:
    """One call of a layer or operation.

    Args:
        operation: The Keras layer or operation.
        inputs: The KerasTensors it takes, in order.
        outputs: Those it returns.
        args: Its positional arguments as they were given.
        kwargs: Its keyword arguments.
    """

    operation: Any
    inputs: tuple
    outputs: tuple
    args: tuple
    kwargs: dict


def ordered_calls(outputs, inputs):
    """Returns every call between inputs and outputs, each behind those that it needs.

    Two models of one structure give their calls in the same order, whatever their layers are
    called and in whichever order they list them or add things up.

    Args:
        outputs: KerasTensors.
        inputs: KerasTensors at which to stop.

    Returns:
        A list of `Call`.
    """
    stop = {id(tensor) for tensor in inputs}
    hashes: dict[int, int] = dict.fromkeys(stop, 1)
    calls = _sorted_calls(outputs, stop, None)
    for call in calls:
        parts = [hashes.get(id(tensor), 0) for tensor in call.inputs]
        if type(call.operation).__name__ in _COMMUTATIVE:
            parts.sort()
        for place, tensor in enumerate(call.outputs):
            rank = len(tensor.shape)
            hashes[id(tensor)] = hash((type(call.operation).__name__, place, rank, tuple(parts)))
    return _sorted_calls(outputs, stop, hashes)


def _sorted_calls(outputs, stop, hashes):
    done: dict[tuple[int, int], Call] = {}
    stack = [(tensor, False) for tensor in reversed(outputs)]
    while stack:
        tensor, ready = stack.pop()
        if id(tensor) in stop:
            continue
        history = tensor._keras_history
        key = (id(history.operation), history.node_index)
        if key in done:
            continue
        node = history.operation._inbound_nodes[history.node_index]
        if node.is_input:
            continue
        inputs = list(node.input_tensors)
        if hashes is not None and type(history.operation).__name__ in _COMMUTATIVE:
            inputs.sort(key=lambda one: hashes.get(id(one), 0))
        if ready:
            arguments = node.arguments
            done[key] = Call(
                history.operation,
                tuple(node.input_tensors),
                tuple(node.output_tensors),
                tuple(arguments.args),
                dict(arguments.kwargs),
            )
        else:
            stack.append((tensor, True))
            stack += [(one, False) for one in reversed(inputs)]
    return list(done.values())


def graph_of(model):
    """Returns (inputs, outputs) of a model's graph, as KerasTensors.

    A Sequential or functional model has one. Of any other, the `call` is run on symbolic inputs
    of the shape it was built for: a subclassed model is then as good as a functional one.

    Args:
        model: A built `keras.Model`, or another layer that only calls layers.

    Returns:
        Two lists; or (None, None) when its `call` cannot be followed.
    """
    if has_graph(model):
        return list(model.inputs), list(model.outputs)
    config = model.get_build_config() or {}
    shape = config.get("input_shape")
    if shape is None:
        return None, None
    if isinstance(shape, dict):
        shape = list(shape.values())
    shapes = shape if isinstance(shape[0], (tuple, list)) else [shape]
    return traced(model, [keras.KerasTensor(one) for one in shapes])


def traced(layer, tensors):
    """Runs a layer's own `call` on symbolic inputs like `tensors`, so that its inside is seen.

    Args:
        layer: A layer or model.
        tensors: KerasTensors whose shapes and types the inputs take.

    Returns:
        (inputs, outputs), or (None, None) when it cannot be followed.
    """
    inputs = [
        keras.Input(batch_shape=tuple(tensor.shape), dtype=tensor.dtype) for tensor in tensors
    ]
    try:
        outputs = layer.call(*inputs) if len(inputs) > 1 else layer.call(inputs[0])
    except Exception:  # whatever the user's code does with a symbolic tensor
        return None, None
    outputs = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
    if not all(isinstance(one, keras.KerasTensor) for one in outputs):
        return None, None
    return inputs, outputs


def has_graph(layer):
    """Whether a layer is a Sequential or functional model whose `call` is Keras' own."""
    if not isinstance(layer, keras.Model):
        return False
    own = type(layer).call
    for kind in type(layer).__mro__:
        if kind.__name__ in ("Functional", "Sequential"):
            return own is kind.__dict__.get("call") and bool(_inputs(layer))
    return False


def _inputs(model):
    try:
        return model.inputs
    except AttributeError:  # a Sequential model that never saw an input
        return None
