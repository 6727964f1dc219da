"""Shortest moves onto a hyperplane that stay inside a box, exact for every row of a batch.

To first order the decision boundary near a point is a hyperplane, and an input has bounds: the
move onto both is what a minimal-distance attack takes (Croce & Hein 2020, arXiv 1907.02044, section
2.2). Every coordinate may move one way only, by the room that the box leaves there, and what it
gains is its weight times its move.

- linf, l2: coordinate i moves by min(t * c_i, room_i), with c_i = 1 or its weight. The gain is a
  concave, increasing, piecewise linear function of t. Newton's method on such a function comes from
  below, passes a breakpoint in every turn that is not its last, and ends on the very solution: a
  few sums over the row, where sorting the breakpoints costs ten times as much.
- l1: the heaviest coordinates go as far as they can (a fractional knapsack). The last weight that
  is needed is found by halving the weights that are left, again without sorting.
"""

from keras import ops


def step_to_hyperplane(normal, gap, lower, upper, norm):
    """Returns the shortest d with <normal, d> = gap and lower <= d <= upper, for each row.

    Where no d inside the box reaches the hyperplane, the one that comes nearest to it is returned:
    every coordinate that helps goes as far as it may. A row whose normal is zero, or whose gap is
    not a number, does not move; entries of the normal that are not finite count as zero.

    Args:
        normal: Tensor of shape (batch, size).
        gap: Tensor of shape (batch,), or (points, batch) for several points with one normal.
        lower: Tensor of shape (batch, size) or (points, batch, size), at most zero.
        upper: Tensor like `lower`, at least zero.
        norm: `"linf"`, `"l2"` or `"l1"`: what shortest means.

    Returns:
        A tensor like `lower`.

    Example:

    >>> normal, gap = ops.convert_to_tensor([[3.0, -4.0]]), ops.convert_to_tensor([2.0])
    >>> lower, upper = ops.full((1, 2), -0.1), ops.ones((1, 2))
    >>> print(ops.convert_to_numpy(step_to_hyperplane(normal, gap, lower, upper, "l2")).round(3))
    [[ 0.533 -0.1  ]]

    Reference:
        Croce & Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary
        attack", arXiv 1907.02044, section 2.2.
    """
    normal = ops.where(ops.isfinite(normal), normal, ops.zeros_like(normal))
    weight = ops.absolute(normal)
    # Weights in units of the largest one: sums neither overflow nor vanish.
    unit = ops.max(weight, axis=-1)
    usable = unit > 0
    weight = weight / ops.where(usable, unit, 1.0)[..., None]
    wanted = ops.absolute(gap) / ops.where(usable, unit, 1.0)
    usable = ops.logical_and(usable, gap == gap)
    wanted = ops.where(usable, wanted, 0.0)
    forward = (normal > 0) == (gap > 0)[..., None]
    room = ops.where(weight > 0, ops.where(forward, upper, -lower), 0.0)
    moved = (_thrifty if norm == "l1" else _even)(weight, room, wanted, norm)
    moved = ops.where(usable[..., None], moved, 0.0)
    return ops.where(forward, moved, -moved)


def _even(weight, room, wanted, norm):
    """Moves of linf and l2, without their signs: min(t * c, room)."""
    speed = weight if norm == "l2" else ops.cast(weight > 0, weight.dtype)
    largest = ops.full_like(wanted, 1e30)

    def newton(scale):
        free = room > scale[..., None] * speed
        filled = ops.sum(ops.where(free, 0.0, weight * room), axis=-1)
        slope = ops.sum(ops.where(free, weight * speed, 0.0), axis=-1)
        scale = (wanted - filled) / ops.where(slope > 0, slope, 1.0)
        return ops.where(slope > 0, ops.minimum(scale, largest), largest)

    def moving(scale, before):
        return ops.any(scale > before)

    def turn(scale, _):
        after = newton(scale)
        return ops.maximum(after, scale), scale

    nothing = ops.zeros_like(wanted)
    first = ops.maximum(newton(nothing), 0.0)
    scale, _ = ops.while_loop(moving, turn, (first, ops.full_like(wanted, -1.0)))
    return ops.minimum(scale[..., None] * speed, room)


def _thrifty(weight, room, wanted, norm):
    """Moves of l1, without their signs: all of the room, from the heaviest coordinate down."""
    gain = weight * room
    none, beyond = ops.full_like(wanted, -1.0), ops.full_like(wanted, 2.0)

    def between(low, high):
        """Smallest, mean and largest weight in (low, high] among coordinates that can move."""
        open_ = ops.logical_and(weight > low[..., None], weight <= high[..., None])
        open_ = ops.logical_and(open_, room > 0)
        count = ops.sum(ops.cast(open_, weight.dtype), axis=-1)
        mean = ops.sum(ops.where(open_, weight, 0.0), axis=-1) / ops.maximum(count, 1.0)
        smallest = ops.min(ops.where(open_, weight, 2.0), axis=-1)
        largest = ops.max(ops.where(open_, weight, -1.0), axis=-1)
        return smallest, mean, largest

    def open_rows(low, high, pivot):
        return ops.any(pivot < high)

    def turn(low, high, pivot):
        above = ops.sum(ops.where(weight > pivot[..., None], gain, 0.0), axis=-1)
        enough = above > wanted
        low, high = ops.where(enough, pivot, low), ops.where(enough, high, pivot)
        smallest, mean, largest = between(low, high)
        # The pivot stays below the largest, so that every turn decides on at least one weight.
        return low, largest, ops.where(mean < largest, mean, smallest)

    smallest, mean, largest = between(none, beyond)
    pivot = ops.where(mean < largest, mean, smallest)
    _, last, _ = ops.while_loop(open_rows, turn, (none, largest, pivot))
    heavier = weight > last[..., None]
    shared = ops.logical_and(weight == last[..., None], room > 0)
    rest = wanted - ops.sum(ops.where(heavier, gain, 0.0), axis=-1)
    ties = ops.sum(ops.where(shared, gain, 0.0), axis=-1)
    share = ops.clip(rest / ops.where(ties > 0, ties, 1.0), 0.0, 1.0)
    return ops.where(heavier, room, ops.where(shared, share[..., None] * room, 0.0))
