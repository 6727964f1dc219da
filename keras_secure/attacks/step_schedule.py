"""When Auto-PGD halves its steps and goes back to the best point, example by example.

Croce & Hein 2020, arXiv 2003.01690, section 3 and algorithm 1. Its names: f is the loss, x(k) are
the iterates, eta(k) is the step size, w(j) are the checkpoints, x_max and f_max the best point and
its loss.
"""

import numpy as np
from keras import ops

from keras_secure.attacks.directions import ascent_direction


def checkpoints(steps):
    """Returns the iterations w(j) after which Auto-PGD looks whether its step size is too large.

    They are ceil(p(j) * steps) with p(0) = 0, p(1) = 0.22 and
    p(j+1) = p(j) + max(p(j) - p(j-1) - 0.03, 0.06): the periods between them become shorter.

    Args:
        steps: Iterations in all, at least 1.

    Returns:
        A tuple of ascending integers, w(1), w(2), ..., none above `steps`.

    Example:

    >>> checkpoints(100)
    (22, 41, 57, 70, 80, 87, 93, 99)

    Reference:
        Croce & Hein 2020, arXiv 2003.01690, section 3.2.
    """
    # In hundredths, which integers hold exactly: 0.22 + 0.19 in floating point rounds up to 42.
    found: list[int] = []
    share = width = 22
    while share <= 100:
        iteration = -(-share * steps // 100)
        if not found or iteration > found[-1]:
            found.append(iteration)
        width = max(width - 3, 6)
        share += width
    return tuple(found)


def periods(steps):
    """Returns for each iteration k: 0, or where k is a checkpoint, how long its period was.

    Args:
        steps: Iterations in all.

    Returns:
        A float32 array of shape (steps + 1,).

    Example:

    >>> print(periods(6))
    [0. 0. 2. 1. 1. 1. 1.]
    """
    table = np.zeros(steps + 1, "float32")
    last = 0
    for iteration in checkpoints(steps):
        table[iteration] = iteration - last
        last = iteration
    return table


def first_iterate(x_adv, epsilon):
    """Returns the part of the state of an example that the schedule keeps, before any step.

    Args:
        x_adv: Tensor of shape (batch, ...), x(0).
        epsilon: Radius, a scalar of the dtype of `x_adv`.

    Returns:
        A dictionary of tensors: `x_adv`, `x_before`, `x_best`, `gradient_best`, and of shape
        (batch,) `loss_before`, `loss_best`, `loss_marked` (f_max at the last checkpoint), `rises`
        (how often the loss rose since then), `step_size`, `halved` (whether the step size was
        halved then) and `go_back` (whether the next iterate is to be replaced by the best point).
    """
    batch = (ops.shape(x_adv)[0],)
    never = ops.full(batch, -float("inf"), "float32")
    return {
        "x_adv": x_adv,
        "x_before": x_adv,
        "x_best": x_adv,
        "gradient_best": ops.zeros_like(x_adv),
        "loss_before": -never,
        "loss_best": never,
        "loss_marked": never,
        "rises": ops.zeros(batch, "float32"),
        "step_size": 2.0 * epsilon + ops.zeros(batch, x_adv.dtype),
        "halved": ops.zeros(batch, "bool"),
        "go_back": ops.zeros(batch, "bool"),
    }


def next_iterate(state, loss, gradient, origin, epsilon, index, period, norm, bounds, rho, inertia):
    """Takes one iteration of algorithm 1, given loss and gradient at the iterate.

    At a checkpoint w(j) the next iterate is still made with the old step size; it is replaced by
    the best point, and the step size halved, when its loss is known.

    Args:
        state: What `first_iterate` or the last call returned.
        loss: Float32 tensor of shape (batch,), f(x(k)).
        gradient: Tensor like `origin`.
        origin: Tensor of shape (batch, ...), the centre of the ball.
        epsilon: Radius, a scalar.
        index: Int32 scalar tensor, k.
        period: Float32 scalar tensor, `periods(steps)[k]`.
        norm: `"linf"` or `"l2"`.
        bounds: Smallest and largest allowed value.
        rho: Share of a period's steps that have to raise the loss.
        inertia: The weight alpha of the new direction against the last step's.

    Returns:
        A dictionary like `state`.
    """
    x_adv = state["x_adv"]
    # A gradient that is not finite would spread NaN over the ball; such a step is not taken.
    gradient = ops.where(ops.isfinite(gradient), gradient, ops.zeros_like(gradient))
    improved = loss > state["loss_best"]
    loss_best = ops.where(improved, loss, state["loss_best"])
    x_best = ops.where(_wide(improved, x_adv), x_adv, state["x_best"])
    gradient_best = ops.where(_wide(improved, x_adv), gradient, state["gradient_best"])

    go_back = state["go_back"]
    loss = ops.where(go_back, loss_best, loss)
    x_adv = ops.where(_wide(go_back, x_adv), x_best, x_adv)
    gradient = ops.where(_wide(go_back, x_adv), gradient_best, gradient)
    step_size = ops.where(go_back, 0.5 * state["step_size"], state["step_size"])

    marked, halved = state["loss_marked"], state["halved"]
    # f_max(0) is f(x(0)), known only now.
    marked = ops.where(index == 0, loss_best, marked)
    rises = state["rises"] + ops.cast(loss > state["loss_before"], "float32")
    at_checkpoint = period > 0
    few_rises = rises < rho * period
    stuck = ops.logical_and(ops.logical_not(halved), loss_best <= marked)
    halve = ops.logical_and(at_checkpoint, ops.logical_or(few_rises, stuck))

    weight = ops.where(index == 0, 1.0, inertia)
    moved = _step(
        x_adv, state["x_before"], gradient, origin, epsilon, step_size, weight, norm, bounds
    )
    return {
        "x_adv": moved,
        "x_before": x_adv,
        "x_best": x_best,
        "gradient_best": gradient_best,
        "loss_before": loss,
        "loss_best": loss_best,
        "loss_marked": ops.where(at_checkpoint, loss_best, marked),
        "rises": ops.where(at_checkpoint, ops.zeros_like(rises), rises),
        "step_size": step_size,
        "halved": ops.where(at_checkpoint, halve, halved),
        "go_back": halve,
    }


def _step(x_adv, x_before, gradient, origin, epsilon, step_size, weight, norm, bounds):
    lowest = ops.minimum(ops.cast(bounds[0], origin.dtype), origin)
    highest = ops.maximum(ops.cast(bounds[1], origin.dtype), origin)
    weight = ops.cast(weight, origin.dtype)
    if norm == "linf":
        lowest = ops.maximum(lowest, origin - epsilon)
        highest = ops.minimum(highest, origin + epsilon)

    def held(point):
        if norm == "l2":
            # As the paper's own: into the ball, then into the box, which leaves no ball around a
            # point of the box. The joint projection would have to sort.
            offset = point - origin
            axes = tuple(range(1, len(origin.shape)))
            length = ops.sqrt(ops.sum(ops.square(offset), axis=axes, keepdims=True))
            scale = epsilon / ops.maximum(length, epsilon)
            point = origin + ops.where(epsilon > 0, scale, ops.zeros_like(scale)) * offset
        return ops.clip(point, lowest, highest)

    direction = ascent_direction(gradient, x_adv, norm, bounds)
    target = held(x_adv + _wide(step_size, x_adv) * direction)
    return held(x_adv + weight * (target - x_adv) + (1.0 - weight) * (x_adv - x_before))


def _wide(values, like):
    return ops.reshape(values, (-1,) + (1,) * (len(like.shape) - 1))
