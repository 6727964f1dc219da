"""A sum of clipped per-example gradients that knows its own sensitivity."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ClippedSum:
    """Sum over a batch of per-example gradients, each scaled to a bounded L2 norm.

    Adding or removing one example moves `values`, taken as one long vector, by at most `l2_bound`,
    and `count` by at most 1/2.

    Args:
        values: One float32 tensor per trainable variable, in the order of
            `model.trainable_variables`.
        l2_bound: The L2 sensitivity in the units of the gradient: a float, or the variable that
            holds it where the clip adapts.
        norms: Per-example gradient norms before clipping, shape (batch,), float32. They are exact
            and therefore not private. None where the batch was summed in parts.
        count: Float32 scalar: examples whose norm is within the bound minus those whose norm is
            not, halved. Padding counts as nothing.
    """

    values: list[Any]
    l2_bound: Any
    norms: Any
    count: Any = None
