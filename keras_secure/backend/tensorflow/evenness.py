"""What a graph tells of a tensor before it runs."""

import tensorflow as tf

_ELEMENTWISE = {"AddV2", "BroadcastTo", "Cast", "Identity", "Mul", "Neg", "RealDiv", "Sub"}


def is_even(tensor, axis):
    """See `contract.Backend.is_even`."""
    if not tf.is_symbolic_tensor(tensor) or tensor.shape.rank is None:
        return False
    if tensor.shape[axis] == 1:
        return True
    operation = tensor.op
    if operation.type in _ELEMENTWISE:
        inputs = operation.inputs[:1] if operation.type == "BroadcastTo" else operation.inputs
        return all(_is_even_below(source, axis, tensor.shape.rank) for source in inputs)
    if operation.type == "Tile":
        return is_even(operation.inputs[0], axis)
    if operation.type == "Reshape":
        source = operation.inputs[0]
        # Only a reshape that changes nothing: with all but the batch known, that is all of it.
        kept = tensor.shape[1:].as_list()
        if None in kept or source.shape.rank is None or source.shape[1:].as_list() != kept:
            return False
        return is_even(source, axis)
    return False


def _is_even_below(source, axis, rank):
    """Whether an operand, broadcast to `rank` axes, is the same all along `axis`."""
    if source.shape.rank is None:
        return False
    place = axis - (rank - source.shape.rank)
    return place < 0 or is_even(source, place)
