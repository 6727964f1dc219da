"""Steps of unit norm that raise a loss fastest, one per norm, and points inside the unit ball."""

import math

from keras import ops


def ascent_direction(gradient, x_adv, norm, bounds, sparsity=0.05):
    """Returns, for every example, a step of norm one along which its loss rises fastest.

    Args:
        gradient: Tensor of shape (batch, ...): the loss of each example by its input.
        x_adv: Tensor like `gradient`, the current iterate; used by l1 only.
        norm: `"linf"` (sign of the gradient), `"l2"` (normalized gradient) or `"l1"`.
        bounds: Smallest and largest allowed value; used by l1 only.
        sparsity: Share of the coordinates that an l1 step moves, at least one. Steepest ascent
            in l1 moves one coordinate only, far too slow; coordinates that the box blocks are
            passed over.

    Returns:
        A tensor like `gradient`; zero for an example whose gradient is zero.

    Example:

    >>> gradient = ops.convert_to_tensor([[3.0, -4.0]])
    >>> print(ops.convert_to_numpy(ascent_direction(gradient, gradient, "l2", (0.0, 1.0))))
    [[ 0.6 -0.8]]

    Reference:
        Tramèr & Boneh 2019, arXiv 1904.13000, section 4 (SLIDE, the l1 step).
    """
    if norm == "linf":
        return ops.sign(gradient)
    rows = _rows(gradient)
    # Divided by the largest entry first: squares of small gradients would vanish in float32.
    largest = ops.max(ops.absolute(rows), axis=1, keepdims=True)
    rows = rows / ops.where(largest > 0, largest, ops.ones_like(largest))
    if norm == "l2":
        length = ops.sqrt(ops.sum(ops.square(rows), axis=1, keepdims=True))
        direction = rows / ops.maximum(length, 1.0)  # the largest entry is one, or all are zero
    else:
        direction = _sparse_direction(rows, _rows(x_adv), bounds, sparsity)
    return ops.reshape(direction, ops.shape(gradient))


def uniform_in_ball(uniforms, norm):
    """Turns uniform numbers into points that are uniform in the unit ball.

    Args:
        uniforms: Tensor of shape (batch, 1 + size) with values in [0, 1).
        norm: `"linf"`, `"l2"` or `"l1"`.

    Returns:
        A tensor of shape (batch, size).

    Example:

    >>> uniforms = ops.convert_to_tensor([[0.5, 0.25, 0.75]])
    >>> print(ops.convert_to_numpy(uniform_in_ball(uniforms, "linf")))
    [[-0.5  0.5]]
    """
    values = uniforms[:, 1:]
    signed = 2.0 * values - 1.0
    if norm == "linf":
        return signed
    limit = 1.0 - 2.0**-23  # the tails of both distributions below are infinite at one
    signed = ops.clip(signed, -limit, limit)
    if norm == "l2":
        points = ops.erfinv(signed)  # normal up to a factor
        length = ops.sqrt(ops.sum(ops.square(points), axis=1, keepdims=True))
    else:
        points = -ops.sign(signed) * ops.log1p(-ops.absolute(signed))  # Laplace
        length = ops.sum(ops.absolute(points), axis=1, keepdims=True)
    radius = ops.power(uniforms[:, :1], 1.0 / ops.cast(ops.shape(values)[1], uniforms.dtype))
    return radius * points / ops.maximum(length, 1e-12)


def _sparse_direction(rows, position, bounds, sparsity):
    blocked = ops.logical_or(
        ops.logical_and(rows > 0, position >= bounds[1]),
        ops.logical_and(rows < 0, position <= bounds[0]),
    )
    size = ops.where(blocked, 0.0, ops.absolute(rows))
    total = ops.shape(rows)[1]  # a tensor where inputs have no fixed length
    count = (
        max(1, math.ceil(sparsity * total))
        if isinstance(total, int)
        else ops.cast(ops.maximum(1.0, ops.ceil(sparsity * ops.cast(total, "float32"))), "int32")
    )
    smallest = ops.top_k(size, count)[0][:, -1:]
    chosen = ops.cast(ops.logical_and(size >= smallest, size > 0), rows.dtype)
    moved = ops.maximum(ops.sum(chosen, axis=1, keepdims=True), 1.0)
    return ops.sign(rows) * chosen / moved


def _rows(tensor):
    return ops.reshape(tensor, (ops.shape(tensor)[0], -1))
