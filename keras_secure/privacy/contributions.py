"""Per-example gradients in factored form: norms and weighted sums without the full tensors.

A layer rule turns what it saw in the forward and backward pass into contributions. Each offers the
squared norm of every example's gradient and the sum of the gradients under per-example weights.
"""

import math
from abc import ABC, abstractmethod

from keras import ops

from keras_secure import backend

# Squares below the smallest normal float32 count as zero. Adding it per square keeps a norm from
# being underestimated where tiny inputs meet huge gradients.
_TINY = 1.2e-38
# The Gram matrices of the ghost norm lose what is this much smaller than their terms. There the
# norm is raised by more than their rounding error, so that it bounds the true one.
_CANCELLATION = 1e-4
_GRAM_ROUNDING = 2e-6


class Contribution(ABC):
    """The per-example gradients of one variable.

    Attributes:
        factors: Float tensors with a leading batch axis, in which the gradients are linear. Between
            `squared_norms` and `weighted_sum` they may be replaced, to silence examples that are
            not finite: a weight of zero alone would not.
    """

    factors: list

    @abstractmethod
    def squared_norms(self):
        """Returns the squared L2 norm of each example's gradient, shape (batch,), float32."""

    @abstractmethod
    def weighted_sum(self, weights):
        """Returns the sum of the gradients times `weights`, shape (batch,), as float32."""


class Materialized(Contribution):
    """Per-example gradients held in full.

    Args:
        gradients: Shape (batch, *variable.shape), any float dtype.
        squared_norms: Optional function that returns the squared norms, where they are known.
    """

    def __init__(self, gradients, squared_norms=None):
        self.factors = [ops.cast(gradients, "float32")]
        self._known_norms = squared_norms

    def squared_norms(self):
        """See `Contribution`."""
        (gradients,) = self.factors
        if self._known_norms is not None:
            return self._known_norms()
        return _squared_lengths(_flat(gradients))

    def weighted_sum(self, weights):
        """See `Contribution`."""
        return ops.tensordot(weights, self.factors[0], axes=1)


class OuterProducts(Contribution):
    """Gradients that are sums over positions of outer products of inputs and output gradients.

    The gradient of example b is `G[g, i, o] = sum_t inputs[b, g, t, i] * grads[b, g, t, o]`. Its
    norm follows from two Gram matrices (the ghost norm) or from `G` itself, whichever takes less
    arithmetic; for one position it is the product of two vector norms.

    Args:
        inputs: Shape (batch, groups, positions, inputs), float32.
        grads: Shape (batch, groups, positions, outputs), float32.
        finish: Maps a (groups, inputs, outputs) tensor to the variable's shape.
        positions_last: Whether `inputs` has shape (batch, groups, inputs, positions) instead.

    Reference: Goodfellow 2015 (arXiv 1510.01799); Li et al. 2021 (arXiv 2110.05679) section 4;
    Bu et al. 2022 (arXiv 2210.00038) section 3 for keeping the factors until the weighted sum.
    """

    def __init__(self, inputs, grads, finish, positions_last=False):
        self.factors = [inputs, grads]
        self.finish, self.positions_last = finish, positions_last
        self.is_full = False
        self._grad_lengths = None

    def grad_lengths(self):
        """For one group and one position, the squared length of each example's `grads`."""
        if self._grad_lengths is None:
            self._grad_lengths = _lengths(_flat(self.factors[1]), axis=1)
        return self._grad_lengths

    def squared_norms(self):
        """See `Contribution`."""
        inputs, grads = self.factors
        axis = "it" if self.positions_last else "ti"
        positions, width_in = (inputs.shape[2 + axis.index(name)] for name in "ti")
        width_out = grads.shape[-1]
        if positions == inputs.shape[1] == 1:
            return _lengths(_flat(inputs), axis=1) * self.grad_lengths()
        if positions is not None and positions * (width_in + width_out) < width_in * width_out:
            left = _lengths(inputs, axis=2 if self.positions_last else 3)
            right = _lengths(grads, axis=3)
            if positions == 1:
                return ops.sum(left * right, axis=(1, 2))
            other = axis.replace("t", "s")
            gram = ops.einsum(f"bg{axis},bg{other}->bgts", inputs, inputs) * ops.einsum(
                "bgto,bgso->bgts", grads, grads
            )
            return _bounded_from_below(ops.sum(gram, axis=(2, 3)), left, right)
        full = ops.einsum(f"bg{axis},bgto->bgio", inputs, grads)
        self.factors, self.is_full = [full], True
        return _squared_lengths(_flat(full))

    def weighted_sum(self, weights):
        """See `Contribution`."""
        if self.is_full:
            return self.finish(ops.tensordot(weights, self.factors[0], axes=1))
        inputs, grads = self.factors
        scaled = grads * ops.reshape(weights, (-1, 1, 1, 1))
        if self.positions_last:
            inputs = ops.transpose(inputs, (0, 1, 3, 2))
        if inputs.shape[1] == 1:
            left, right = (ops.reshape(f, (-1, f.shape[-1])) for f in (inputs, scaled))
            return self.finish(ops.matmul(ops.transpose(left), right)[None])
        left, right = _rows_by_group(inputs), _rows_by_group(scaled)
        return self.finish(ops.matmul(ops.transpose(left, (0, 2, 1)), right))


def _squared_lengths(tensor, axis=-1):
    return ops.sum(ops.square(tensor), axis=axis)


def _lengths(tensor, axis):
    """Squared length of each position's vector, never below the true one by underflow."""
    return _squared_lengths(tensor, axis) + _TINY * tensor.shape[axis]


def _bounded_from_below(squared, inputs, grads):
    """Raises ghost norms (batch, groups) to bounds where float32 cannot hold them exactly.

    `inputs` and `grads` are squared lengths, shape (batch, groups, positions).
    """
    left, right = ops.sqrt(inputs), ops.sqrt(grads)
    # By the triangle inequality the norm is at most the sum over positions.
    ceiling = ops.square(ops.sum(left * right, axis=-1))
    cancelled = squared < _CANCELLATION * ceiling
    squared = ops.where(cancelled, ops.maximum(squared, 0.0) + _GRAM_ROUNDING * ceiling, squared)
    # Underflow of the entries of one Gram matrix, amplified by the other.
    lost = _TINY * (ops.square(ops.sum(left, axis=-1)) + ops.square(ops.sum(right, axis=-1)))
    return ops.sum(squared + lost, axis=-1)


def _rows_by_group(tensor):
    groups, width = tensor.shape[1], tensor.shape[-1]
    return ops.reshape(ops.transpose(tensor, (1, 0, 2, 3)), (groups, -1, width))


def _flat(tensor):
    size = math.prod(tensor.shape[1:]) if None not in tensor.shape[1:] else -1
    return ops.reshape(tensor, (ops.shape(tensor)[0], size))


class Rows(Contribution):
    """Gradients of a lookup table, of which each example touches a few rows.

    Args:
        indices: Row numbers, shape (batch, positions), int.
        grads: Gradients of the rows taken, shape (batch, positions, width), float32.
        num_rows: Rows in the table.
    """

    def __init__(self, indices, grads, num_rows):
        self.indices, self.num_rows = indices, num_rows
        self.factors = [grads]
        # Pooling spreads one gradient evenly over the positions. Counting the rows taken is then
        # cheaper than summing gradients, where the counts take no more memory than these.
        positions, width = grads.shape[1:]
        fits = positions is not None and num_rows <= positions * width
        self.counts = (
            backend.row_counts(indices, num_rows)
            if fits and backend.is_even(grads, axis=1)
            else None
        )

    def squared_norms(self):
        """See `Contribution`."""
        (grads,) = self.factors
        if self.counts is not None:
            # A row that is taken n times receives n times the gradient.
            return _lengths(grads[:, 0], axis=1) * _squared_lengths(self.counts)
        # Positions that take the same row add up at the first place of that row in order, so that
        # norm and sum see the same cancellation.
        ordered = ops.sort(self.indices, axis=1)
        first = backend.first_places(ordered, self.indices)
        batch, positions = ops.shape(first)[0], ops.shape(first)[1]
        first = first + ops.arange(batch, dtype="int32")[:, None] * positions
        summed = _summed_rows(grads, first, batch * positions)
        self.indices = ordered
        self.factors = [ops.reshape(summed, ops.shape(grads))]
        return _squared_lengths(_flat(self.factors[0]))

    def weighted_sum(self, weights):
        """See `Contribution`."""
        (grads,) = self.factors
        if self.counts is not None:
            return ops.matmul(ops.transpose(self.counts), grads[:, 0] * weights[:, None])
        return _summed_rows(grads * weights[:, None, None], self.indices, self.num_rows)


def _summed_rows(grads, indices, num_rows):
    rows = ops.reshape(grads, (-1, grads.shape[-1]))
    return ops.segment_sum(rows, ops.reshape(indices, (-1,)), num_segments=num_rows)
