"""Auto-PGD in l1: sparse steps, in balls that shrink to the one that counts.

Croce & Hein 2021, arXiv 2103.01208, section 4. A steepest step in l1 moves a single value. Here it
moves as many as the best point so far suggests, and where that number falls, the step size starts
over from the best point.
"""

import math

import numpy as np
from keras import ops

from keras_secure.attacks.projections import project

FIRST_SHARE = 0.2
"""Share of the values that the first steps move."""
DENSITY = 1.5
"""The best point differs from the input in this many times as many values as a step moves."""
FALLEN = 0.95
"""Sparsity below this share of the last one starts the step size over."""
SHRINK = 1.5
"""Else the step size is divided by this."""
SMALLEST = 0.1
"""Smallest step size, as a share of the radius."""


def phases(steps):
    """Returns the balls that l1 Auto-PGD searches in turn.

    Args:
        steps: Iterations in all.

    Returns:
        A list of (first iteration, iteration after the last, radius as a multiple of epsilon).

    Example:

    >>> phases(100)
    [(0, 30, 3.0), (30, 60, 2.0), (60, 100, 1.0)]
    >>> phases(2)
    [(0, 2, 1.0)]

    Reference:
        Croce & Hein 2021, arXiv 2103.01208, section 4.3 (multi-epsilon).
    """
    wide = 3 * steps // 10
    ends = [0, wide, 2 * wide, steps]
    radii = [3.0, 2.0, 1.0]
    return [
        (start, stop, radius)
        for start, stop, radius in zip(ends, ends[1:], radii, strict=False)
        if stop > start
    ]


def random_point(origin, uniforms, epsilon, steps, bounds):
    """Returns a first iterate: normal noise, projected onto the first ball and the box.

    Args:
        origin: Tensor of shape (batch, ...).
        uniforms: Tensor of shape (batch, 1 + size) with values in [0, 1).
        epsilon: Radius, a scalar.
        steps: Iterations in all.
        bounds: Smallest and largest allowed value.

    Returns:
        A tensor like `origin`.
    """
    limit = 1.0 - 2.0**-23  # the tails are infinite at one
    normal = math.sqrt(2.0) * ops.erfinv(ops.clip(2.0 * uniforms[:, 1:] - 1.0, -limit, limit))
    moved = origin + ops.reshape(ops.cast(normal, origin.dtype), ops.shape(origin))
    return project(moved, origin, phases(steps)[0][2] * epsilon, "l1", bounds)


def first_iterate(x_adv, epsilon, steps):
    """Returns the part of the state of an example that the schedule keeps, before any step.

    Args:
        x_adv: Tensor of shape (batch, ...), the first iterate.
        epsilon: Radius, a scalar of the dtype of `x_adv`.
        steps: Iterations in all.

    Returns:
        A dictionary of tensors: `x_adv`, `x_best`, `gradient_best`, and of shape (batch,)
        `loss_best`, `step_size`, `moving` (how many values a step moves) and `moved` (in how many
        the best point differed from the input when that was last looked at).
    """
    batch, size = ops.shape(ops.reshape(x_adv, (ops.shape(x_adv)[0], -1)))
    zeros = ops.zeros((batch,), x_adv.dtype)
    size = ops.cast(size, x_adv.dtype)
    return {
        "x_adv": x_adv,
        "x_best": x_adv,
        "gradient_best": ops.zeros_like(x_adv),
        "loss_best": ops.full((batch,), -float("inf"), "float32"),
        "step_size": phases(steps)[0][2] * epsilon + zeros,
        "moving": FIRST_SHARE * size + zeros,
        "moved": size + zeros,
    }


def next_iterate(state, loss, gradient, origin, epsilon, index, steps, bounds):
    """Takes one iteration, given loss and gradient at the iterate.

    Args:
        state: What `first_iterate` or the last call returned.
        loss: Float32 tensor of shape (batch,).
        gradient: Tensor like `origin`.
        origin: Tensor of shape (batch, ...), the centre of the ball.
        epsilon: Radius, a scalar.
        index: Int32 scalar tensor, the number of the iteration.
        steps: Iterations in all.
        bounds: Smallest and largest allowed value.

    Returns:
        (inside, state): whether the iterate that was given is in the ball that counts, and what
        follows.
    """
    radius, looks, turns, next_radius = (
        ops.take(ops.convert_to_tensor(table), index) for table in _tables(steps)
    )
    inside = radius <= 1
    radius, next_radius = (ops.cast(r, origin.dtype) * epsilon for r in (radius, next_radius))
    x_adv = state["x_adv"]
    # A gradient that is not finite would spread NaN over the ball; such a step is not taken.
    gradient = ops.where(ops.isfinite(gradient), gradient, ops.zeros_like(gradient))
    improved = loss > state["loss_best"]
    loss_best = ops.where(improved, loss, state["loss_best"])
    x_best = ops.where(_wide(improved, x_adv), x_adv, state["x_best"])
    gradient_best = ops.where(_wide(improved, x_adv), gradient, state["gradient_best"])

    moved = _count(x_best - origin)
    sparser = ops.logical_and(looks, moved < FALLEN * state["moved"])
    step_size = ops.where(
        looks, ops.maximum(state["step_size"] / SHRINK, SMALLEST * radius), state["step_size"]
    )
    step_size = ops.where(sparser, radius, step_size)
    x_adv = ops.where(_wide(sparser, x_adv), x_best, x_adv)
    gradient = ops.where(_wide(sparser, x_adv), gradient_best, gradient)
    moving = ops.where(looks, moved / DENSITY, state["moving"])
    moved = ops.where(looks, moved, state["moved"])

    # The best point of one ball, projected onto the next, is where that search starts.
    stepped = x_adv + _sparse_step(gradient, step_size, moving)
    x_next = project(
        ops.where(turns, x_best, stepped),
        origin,
        ops.where(turns, next_radius, radius),
        "l1",
        bounds,
    )
    begun = _count(x_next - origin)
    return inside, {
        "x_adv": x_next,
        "x_best": x_best,
        "gradient_best": gradient_best,
        "loss_best": ops.where(turns, ops.full_like(loss_best, -float("inf")), loss_best),
        "step_size": ops.where(turns, next_radius, step_size),
        "moving": ops.where(turns, begun / DENSITY, moving),
        "moved": ops.where(turns, begun, moved),
    }


def _tables(steps):
    """For every iteration: radius, whether the sparsity is looked at, whether a ball ends, next."""
    radius, next_radius = np.ones(steps + 1, "float32"), np.ones(steps + 1, "float32")
    looks, turns = np.zeros(steps + 1, bool), np.zeros(steps + 1, bool)
    found = phases(steps)
    for number, (start, stop, multiple) in enumerate(found):
        radius[start:stop] = multiple
        period = -(-(stop - start) // 25)  # four hundredths
        looks[start + period : stop : period] = True
        if number + 1 < len(found):
            turns[stop - 1] = True
            next_radius[stop - 1] = found[number + 1][2]
    return radius, looks, turns, next_radius


def _sparse_step(gradient, step_size, moving):
    rows = ops.reshape(gradient, (ops.shape(gradient)[0], -1))
    size = ops.absolute(rows)
    count = ops.cast(ops.maximum(ops.ceil(moving), 1.0), "int32")[:, None]
    chosen = ops.logical_and(size >= _at_rank(size, count), size > 0)
    chosen = ops.cast(chosen, rows.dtype)
    share = step_size[:, None] / ops.maximum(ops.sum(chosen, axis=1, keepdims=True), 1.0)
    return ops.reshape(share * ops.sign(rows) * chosen, ops.shape(gradient))


def _at_rank(size, count):
    """A value that the `count` largest of each row reach, and no others but where they nearly tie.

    Found by halving an interval: passes that only count cost a fraction of sorting.
    """
    highest = ops.max(size, axis=1, keepdims=True)

    def searching(low, high, going):
        return ops.any(going)

    def halve(low, high, going):
        middle = 0.5 * (low + high)
        reached = ops.sum(ops.cast(size >= middle, "int32"), axis=1, keepdims=True)
        enough = reached >= count
        low = ops.where(ops.logical_and(going, enough), middle, low)
        high = ops.where(enough, high, middle)
        return low, high, ops.logical_and(going, reached != count)

    return ops.while_loop(
        searching,
        halve,
        (ops.zeros_like(highest), 2.0 * highest, highest > 0),
        maximum_iterations=64,
    )[0]


def _count(offset):
    rows = ops.reshape(offset, (ops.shape(offset)[0], -1))
    return ops.sum(ops.cast(rows != 0, offset.dtype), axis=1)


def _wide(values, like):
    return ops.reshape(values, (-1,) + (1,) * (len(like.shape) - 1))
