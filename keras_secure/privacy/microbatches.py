"""One batch in parts that fit into memory: the same sum, to be noised once."""

import dataclasses
import math

from keras import ops, tree

from keras_secure import backend

# Standard deviations of the batch size that a step computes in one go. The static shape holds five;
# leaving the difference to a second turn saves 5 to 15% of a step's time, and one step in forty
# takes that turn.
_USUAL = 2.0


def usual_rows(batch_size):
    """Returns a number of rows that holds all but about one in forty random draws.

    Args:
        batch_size: Mean size of a draw.

    Example:

    >>> usual_rows(256)
    288
    """
    return 8 * math.ceil((batch_size + _USUAL * math.sqrt(batch_size)) / 8)


def sum_of_microbatches(clipped_sum, variables, batch, mask, microbatch_size):
    """Returns the clipped sum of a batch, of which only a part is in memory at any time.

    Parts at the end of the batch that consist of padding are left out, so that the head-room of
    Poisson batches costs nothing.

    Args:
        clipped_sum: Function of (part of the batch, its mask) that returns a `ClippedSum`. It is
            traced once, in a loop.
        variables: The trainable variables, whose shapes the sums have.
        batch: Nested tensors with a common first axis; None leaves are handed on.
        mask: Optional (batch,) bool, false for padding.
        microbatch_size: Rows of a part, an int; None takes the whole batch at once.

    Returns:
        A `ClippedSum`, without norms if the batch was split.
    """
    first = next(leaf for leaf in tree.flatten(batch) if leaf is not None)
    size = ops.shape(first)[0]
    if microbatch_size is None or (isinstance(size, int) and size <= microbatch_size):
        return clipped_sum(batch, mask)
    used = size
    if mask is not None:
        used = ops.max(ops.where(mask, ops.arange(1, size + 1, dtype="int32"), 0))
        # An empty batch has one part as well: whatever the losses record stays defined.
        used = ops.maximum(used, 1)
    offsets = ops.arange(microbatch_size, dtype="int32")
    kept = {}

    def unfinished(start, *_):
        return start < used

    def add(start, *sums):
        rows = start + offsets
        part_mask = rows < size
        rows = ops.minimum(rows, size - 1)
        if mask is not None:
            part_mask = ops.logical_and(part_mask, ops.take(mask, rows, axis=0))
        part = tree.map_structure(
            lambda leaf: None if leaf is None else ops.take(leaf, rows, axis=0), batch
        )
        found = clipped_sum(part, part_mask)
        kept["sum"] = found
        terms = [found.count, *found.values]
        return [start + microbatch_size, *(s + t for s, t in zip(sums, terms, strict=True))]

    zeros = [ops.zeros(shape, "float32") for shape in [(), *(v.shape for v in variables)]]
    _, count, *values = backend.sequential_loop(unfinished, add, [0, *zeros])
    # Sums over disjoint parts of a batch add up under the bound of each.
    return dataclasses.replace(kept["sum"], values=values, count=count, norms=None)
