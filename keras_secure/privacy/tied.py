"""Per-example gradients of a variable that several layers use, with exact cross terms."""

from keras import ops

from keras_secure import backend
from keras_secure.privacy.contributions import Contribution, Materialized, OuterProducts, Rows
from keras_secure.privacy.convolution_products import ConvolutionProducts

# Relative rounding error of a float32 sum of products, with room. Squared norms of sums are raised
# by as much of their terms' sizes, so that cancellation between the parts cannot hide a gradient.
_ROUNDING = 5e-7


class Tied(Contribution):
    """Gradients that are sums of parts, whose inner products are known.

    Args:
        parts: Contributions to the same variable.
        cross: Sum over pairs of parts of the inner product of their gradients, shape (batch,).
        size: Sum of the absolute values of the terms that `cross` adds up, shape (batch,).
    """

    def __init__(self, parts, cross, size):
        self.parts, self.cross, self.size = parts, cross, size

    @property
    def factors(self):
        """The factors of all parts."""
        return [factor for part in self.parts for factor in part.factors]

    @factors.setter
    def factors(self, factors):
        remaining = iter(factors)
        for part in self.parts:
            part.factors = [next(remaining) for _ in part.factors]

    def squared_norms(self):
        """See `Contribution`."""
        squared = sum(part.squared_norms() for part in self.parts)
        lost = _ROUNDING * (squared + 2.0 * self.size)
        return ops.maximum(squared + 2.0 * self.cross, 0.0) + lost

    def weighted_sum(self, weights):
        """See `Contribution`."""
        return sum(part.weighted_sum(weights) for part in self.parts)


def joined(contributions, same_layout=False):
    """Returns one contribution for the sum of several to the same variable.

    Args:
        contributions: At least one contribution.
        same_layout: Whether all `OuterProducts` among them map to the variable in the same way, as
            those of one kind of layer do. They then join along the positions; otherwise the
            gradients are held in full.
    """
    if len(contributions) == 1:
        return contributions[0]
    contributions = [
        part.as_outer_products() if isinstance(part, ConvolutionProducts) else part
        for part in contributions
    ]
    kinds = {type(contribution) for contribution in contributions}
    if kinds == {Rows}:
        return _joined_rows(contributions)
    if kinds == {OuterProducts} and same_layout and _have_same_widths(contributions):
        return _joined_products(contributions)
    return Materialized(sum(_in_full(contribution) for contribution in contributions))


def _joined_rows(contributions):
    grads = [part.factors[0] for part in contributions]
    indices = [part.indices for part in contributions]
    return Rows(
        ops.concatenate(indices, axis=1),
        ops.concatenate(grads, axis=1),
        contributions[0].num_rows,
    )


def _have_same_widths(contributions):
    def widths(part):
        inputs, grads = part.factors
        width = inputs.shape[2 if part.positions_last else 3]
        return (part.positions_last, inputs.shape[1], width, grads.shape[3])

    return len({widths(part) for part in contributions}) == 1


def _joined_products(contributions):
    first = contributions[0]
    inputs = [part.factors[0] for part in contributions]
    grads = [part.factors[1] for part in contributions]
    return OuterProducts(
        ops.concatenate(inputs, axis=3 if first.positions_last else 2),
        ops.concatenate(grads, axis=2),
        first.finish,
        positions_last=first.positions_last,
    )


def _in_full(contribution):
    """The gradients as a tensor of shape (batch, *variable.shape)."""
    if isinstance(contribution, Materialized):
        return contribution.factors[0]
    numbers = ops.arange(ops.shape(contribution.factors[0])[0])
    alone = ops.cast(numbers[:, None] == numbers[None, :], "float32")
    # A weighted sum under the weights of the one example is that example's gradient.
    return backend.per_example_map(contribution.weighted_sum, alone)
