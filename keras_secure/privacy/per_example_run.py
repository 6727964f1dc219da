"""Running a layer example by example, vectorized, with weights of each example's own."""

import keras
from keras import ops, tree

from keras_secure import backend

# Spreads per-example seeds; odd, so that multiplication permutes the 32-bit integers.
_SEED_STRIDE = 2654435761


class Frame:
    """What is watched while a layer runs for one example alone.

    A gradient by a tensor inside the vectorized run cannot be asked for; one by a zero that was
    added to it, the probe, can.

    Args:
        probes: Zeros for one example, in the order in which they will be used.
        copied: Ids of the variables that the example has its own copies of.

    Attributes:
        seen: Pairs (layer, inputs) of the layers that were recorded.
        shapes: Shapes of the tensors that probes were asked for.
        has_mask: For each output, whether it carries a mask.
    """

    def __init__(self, probes, copied):
        self.probes, self.copied = probes, copied
        self.seen: list = []
        self.shapes: list = []
        self.has_mask: list = []

    def probed(self, tensor):
        """Returns `tensor` plus the next probe."""
        number, shape = len(self.shapes), tuple(tensor.shape)
        self.shapes.append(shape)
        fits = number < len(self.probes) and tuple(self.probes[number].shape) == shape
        return tensor + ops.cast(self.probes[number], tensor.dtype) if fits else tensor


def run_by_example(observation, layer, call, args, kwargs, variables, copies, probes):
    """Runs `call` for each example of the batch.

    Args:
        observation: The `Observation` that records into the frame.
        layer: The layer whose `call` it is.
        call: The layer's own forward pass.
        args: Its arguments; those with a leading batch axis are split.
        kwargs: Its keyword arguments, likewise.
        variables: Variables that every example has a copy of.
        copies: The copies, shape (batch, *variable.shape).
        probes: Zeros with a leading batch axis.

    Returns:
        (outputs of the whole batch, `Frame` whose `seen` holds tensors of the whole batch).
    """
    flat = tree.flatten((args, kwargs))
    batched = [i for i, leaf in enumerate(flat) if _is_batched(leaf, observation.batch_size)]
    masks = {i: mask for i in batched if (mask := _mask_of(flat[i])) is not None}
    seeds = [v for v in layer.variables if v.name == "seed_generator_state"]
    streams = [_streams(seed, observation.batch_size) for seed in seeds]
    copied = {id(variable) for variable in variables}
    frames = []

    def one(elements):
        inputs, masked, weights, states, zeros = elements
        leaves = list(flat)
        for position, value in zip(batched, inputs, strict=True):
            leaves[position] = value[None]
        for position, mask in zip(masks, masked, strict=True):
            leaves[position]._keras_mask = mask[None]
        example_args, example_kwargs = tree.pack_sequence_as((args, kwargs), leaves)
        frame = Frame(zeros, copied)
        frames.append(frame)
        mapping = [*zip(variables, weights, strict=True), *zip(seeds, states, strict=True)]
        with (
            keras.StatelessScope(state_mapping=mapping) as scope,
            observation.by_example(frame),
        ):
            output = call(*example_args, **example_kwargs)
        advanced = [scope.get_current_value(seed) for seed in seeds]
        out_masks = [_mask_of(leaf) for leaf in tree.flatten(output)]
        frame.has_mask = [mask is not None for mask in out_masks]
        output, out_masks = tree.map_structure(
            lambda leaf: leaf[0], (output, [mask for mask in out_masks if mask is not None])
        )
        return output, out_masks, advanced, [entry for _, entry in frame.seen]

    outputs, out_masks, advanced, seen = backend.per_example_map(
        one, ([flat[i] for i in batched], list(masks.values()), copies, streams, probes)
    )
    for seed, state in zip(seeds, advanced, strict=True):
        seed.assign(ops.stack([ops.convert_to_tensor(seed)[0], state[0, 1]]))
    frame, remaining = frames[-1], iter(out_masks)
    for leaf, has_mask in zip(tree.flatten(outputs), frame.has_mask, strict=True):
        if has_mask:
            leaf._keras_mask = next(remaining)
    frame.seen = [(inner, entry) for (inner, _), entry in zip(frame.seen, seen, strict=True)]
    return outputs, frame


def _streams(seed, batch_size):
    """One seed state per example, so that every example draws from a stream of its own."""
    numbers = ops.cast(ops.arange(batch_size, dtype="int32"), seed.dtype)
    spread = ops.stack([numbers * _SEED_STRIDE, ops.zeros_like(numbers)], axis=1)
    return ops.convert_to_tensor(seed)[None] + spread


def _is_batched(leaf, batch_size):
    if not ops.is_tensor(leaf) or len(leaf.shape) == 0:
        return False
    return not isinstance(batch_size, int) or leaf.shape[0] in (None, batch_size)


def _mask_of(tensor):
    # Keras carries masks from layer to layer on the tensors themselves.
    return getattr(tensor, "_keras_mask", None)
