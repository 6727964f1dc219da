"""Exact Euclidean projections onto a norm ball and a box together.

A perturbation has to stay in the ball of radius `epsilon` around zero and has to keep the input
inside its bounds. Projecting onto one and then onto the other is not the projection onto both: it
wastes budget, most of all for l1 (Croce & Hein 2021, arXiv 2103.01208, section 3). Each function
here solves the joint problem exactly for every example of a batch. The optimality conditions give
the solution up to one scalar, the root of a monotone function that is simple between breakpoints.
"""

from functools import partial

import keras
from keras import ops

from keras_secure import backend


def project(x_adv, x, epsilon, norm, bounds):
    """Returns the point nearest to `x_adv` that is within `epsilon` of `x` and inside `bounds`.

    Args:
        x_adv: Floating point tensor of shape (batch, ...).
        x: Tensor like `x_adv`, the centre of the ball. A coordinate of `x` that is outside
            `bounds` already is never moved further out.
        epsilon: Radius of the ball, a scalar.
        norm: `"linf"`, `"l2"` or `"l1"`, taken over one example.
        bounds: Smallest and largest allowed value.

    Returns:
        A tensor like `x_adv`. Every example is projected on its own.

    Example:

    >>> x = ops.convert_to_tensor([[0.9, 0.5]])
    >>> x_adv = ops.convert_to_tensor([[1.3, 0.8]])
    >>> print(ops.convert_to_numpy(project(x_adv, x, 0.2, "linf", (0.0, 1.0))))
    [[1.  0.7]]
    """
    epsilon = ops.cast(epsilon, x.dtype)
    projecting = partial(_projected, norm=norm, bounds=bounds)
    if norm == "linf":
        return backend.fused_call(projecting, (x_adv, x, epsilon))
    return projecting(x_adv, x, epsilon)


def _projected(x_adv, x, epsilon, norm, bounds):
    lowest = ops.minimum(ops.cast(bounds[0], x.dtype), x)
    highest = ops.maximum(ops.cast(bounds[1], x.dtype), x)
    delta = PROJECTIONS[norm](_flat(x_adv - x), _flat(lowest - x), _flat(highest - x), epsilon)
    # Adding x back rounds, so the box is applied once more where rounding could have left it.
    return ops.clip(x + ops.reshape(delta, ops.shape(x)), lowest, highest)


def project_linf(delta, lower, upper, epsilon):
    """Projects each row of `delta` onto max|d| <= epsilon and lower <= d <= upper.

    Args:
        delta: Tensor of shape (batch, size).
        lower: Tensor like `delta`, at most zero.
        upper: Tensor like `delta`, at least zero.
        epsilon: Radius, a scalar.

    Returns:
        A tensor like `delta`. Ball and box are both boxes here, so clipping is exact.
    """
    return ops.clip(delta, ops.maximum(lower, -epsilon), ops.minimum(upper, epsilon))


def project_l2(delta, lower, upper, epsilon):
    """Projects each row of `delta` onto ||d||_2 <= epsilon and lower <= d <= upper.

    With the multiplier m of the ball, the solution is clip(s * delta, lower, upper) with
    s = 1 / (1 + m) in (0, 1]. Its squared norm is sum_i min(s * |delta_i|, c_i)^2, where c_i is the
    room that the box leaves on the side of delta_i: a monotone function of s, quadratic between
    the breakpoints c_i / |delta_i|.

    Args:
        delta: Tensor of shape (batch, size).
        lower: Tensor like `delta`, at most zero.
        upper: Tensor like `delta`, at least zero.
        epsilon: Radius, a scalar.

    Returns:
        A tensor like `delta`.
    """
    size = ops.absolute(delta)
    room = ops.where(delta > 0, upper, -lower)
    # Lengths in units of the largest one: squares neither overflow nor vanish.
    unit = _positive(ops.max(size, axis=1, keepdims=True))
    size, room, radius = size / unit, room / unit, epsilon / unit

    # A coordinate that the box never holds back gets a breakpoint beyond every scale up to one.
    never = ops.full_like(size, 2.0)
    meets_box = ops.where(size > room, room / _positive(size), never)
    order = ops.argsort(meets_box, axis=1)
    breakpoints = ops.take_along_axis(meets_box, order, axis=1)
    saturated = ops.cumsum(ops.square(ops.take_along_axis(room, order, axis=1)), axis=1)
    sizes = ops.square(ops.take_along_axis(size, order, axis=1))
    # Summed from the far end: a total minus a prefix would cancel to noise for the last few.
    free = ops.flip(ops.cumsum(ops.flip(sizes, axis=1), axis=1), axis=1) - sizes
    at_breakpoint = saturated + ops.square(breakpoints) * free
    reached = at_breakpoint <= ops.square(radius)
    # The last breakpoint inside the ball starts the segment that holds the root.
    start = ops.max(ops.where(reached, breakpoints, 0.0), axis=1, keepdims=True)

    # On that segment the root is closed form; summing again is more exact than the running sums.
    held = meets_box <= start
    fixed = ops.sum(ops.where(held, ops.square(room), 0.0), axis=1, keepdims=True)
    moving = ops.sum(ops.where(held, 0.0, ops.square(size)), axis=1, keepdims=True)
    gap = ops.maximum(ops.square(radius) - fixed, 0.0)
    scale = ops.sqrt(gap / _positive(moving))
    scale = ops.where(moving > 0, scale, ops.ones_like(scale))

    boxed = ops.clip(delta, lower, upper)
    inside = _l2(boxed / unit) <= radius
    projected = ops.clip(ops.minimum(scale, 1.0) * delta, lower, upper)
    # Rounding may leave the norm an ulp too large; shrinking towards zero cannot leave the box.
    shrink = ops.minimum(radius / _positive(_l2(projected / unit)), 1.0)
    return ops.where(inside, boxed, shrink * projected)


def project_l1(delta, lower, upper, epsilon):
    """Projects each row of `delta` onto ||d||_1 <= epsilon and lower <= d <= upper.

    The solution is sign(delta_i) * clip(|delta_i| - t, 0, c_i) with one threshold t >= 0, where
    c_i is the room that the box leaves on the side of delta_i. The l1 norm of that is decreasing
    and piecewise linear in t, with breakpoints |delta_i| - c_i and |delta_i|.

    Args:
        delta: Tensor of shape (batch, size).
        lower: Tensor like `delta`, at most zero.
        upper: Tensor like `delta`, at least zero.
        epsilon: Radius, a scalar.

    Returns:
        A tensor like `delta`.

    Reference:
        Croce & Hein 2021, "Mind the box", arXiv 2103.01208, proposition 3.1.
    """
    size = ops.absolute(delta)
    room = ops.where(delta > 0, upper, -lower)
    threshold = _l1_threshold(size, room, epsilon)
    kept = ops.clip(size - threshold, 0.0, room)
    projected = ops.sign(delta) * kept
    # Rounding may leave the norm an ulp too large; shrinking towards zero cannot leave the box.
    shrink = ops.minimum(epsilon / _positive(ops.sum(kept, axis=1, keepdims=True)), 1.0)
    boxed = ops.clip(delta, lower, upper)
    inside = ops.sum(ops.absolute(boxed), axis=1, keepdims=True) <= epsilon
    return ops.where(inside, boxed, shrink * projected)


def _l1_threshold(size, room, epsilon):
    """The t at which sum_i clip(size_i - t, 0, room_i) is epsilon, for rows where it is more at 0.

    Newton's method, which ends on the linear segment that holds the root with the root itself, in
    a bracket that it cannot leave: five to ten passes, where sorting the breakpoints costs as much
    as a hundred.
    """
    enters = size - room  # above this threshold the box no longer binds
    highest = ops.max(size, axis=1, keepdims=True)
    double = keras.backend.standardize_dtype(size.dtype) == "float64"
    close = highest * (2.0**-50 if double else 2.0**-22)

    def searching(threshold, low, high, going):
        return ops.any(going)

    def step(threshold, low, high, going):
        excess = ops.sum(ops.clip(size - threshold, 0.0, room), axis=1, keepdims=True) - epsilon
        moving = ops.logical_and(size > threshold, enters <= threshold)
        slope = ops.sum(ops.cast(moving, size.dtype), axis=1, keepdims=True)
        low = ops.where(excess > 0, ops.maximum(low, threshold), low)
        high = ops.where(excess > 0, high, ops.minimum(high, threshold))
        root = threshold + excess / ops.maximum(slope, 1.0)
        found = ops.logical_and(slope > 0, ops.absolute(root - threshold) <= close)
        between = ops.logical_and(root > low, root < high)
        usable = ops.logical_or(found, ops.logical_and(slope > 0, between))
        root = ops.where(usable, root, 0.5 * low + 0.5 * high)
        # Each row ends by itself, so that batch-mates do not matter; NaN ends at once.
        after = ops.where(going, root, threshold)
        apart = ops.absolute(root - threshold) > close
        going = ops.logical_and(going, ops.logical_and(apart, ops.logical_not(found)))
        return after, low, high, going

    zeros = ops.zeros_like(highest)
    return ops.while_loop(
        searching, step, (zeros, zeros, highest, highest > 0), maximum_iterations=200
    )[0]


PROJECTIONS = {"linf": project_linf, "l2": project_l2, "l1": project_l1}


def _flat(tensor):
    return ops.reshape(tensor, (ops.shape(tensor)[0], -1))


def _l2(rows):
    return ops.sqrt(ops.sum(ops.square(rows), axis=1, keepdims=True))


def _positive(values):
    """Replaces zeros, so that dividing by the result is safe where the quotient is not used."""
    return ops.where(values > 0, values, ops.ones_like(values))
