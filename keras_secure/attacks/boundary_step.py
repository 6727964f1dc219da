"""One step of FAB: from the current point and from the input towards one linearized boundary."""

from keras import ops

from keras_secure.attacks.hyperplane import step_to_hyperplane
from keras_secure.attacks.rows import by_row, lengths

DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}


def boundary_step(state, x, wrong, margin, lead, gradient, bounds, norm, alpha_max, eta, beta):
    """Keeps the point if it is the nearest that fools, and makes the next one.

    A point that fools is drawn back towards the input first; the model's answers at the point that
    was left are extrapolated to it, so that no pass through the model is spent on going back. The
    next point lies between where two exact projections onto the linearized boundary lead, that of
    the current point and, by a weight of at most `alpha_max`, that of the input.

    Args:
        state: Dictionary of tensors `x_adv`, `iterate` (both like `x`), `distance` and `margin`.
        x: Tensor of shape (batch, ...), the inputs.
        wrong: Boolean tensor of shape (batch,): whether the iterate fools the model.
        margin: Tensor of shape (batch,): by how much it does.
        lead: Tensor of shape (batch,): the linearized function, whose zeros are the boundary.
        gradient: Tensor like `x`: its gradient at the iterate.
        bounds: Smallest and largest allowed value.
        norm: `"linf"`, `"l2"` or `"l1"`.
        alpha_max: Most weight that the input's projection gets.
        eta: How far beyond the boundary a step leads, from 1.
        beta: What part of its distance a point that fools keeps.

    Returns:
        A dictionary like `state`.

    Reference:
        Croce & Hein 2020, arXiv 1907.02044, algorithm 1.
    """
    kept = keep_nearest(state, x, state["iterate"], wrong, margin, norm)
    shape = ops.shape(x)
    x, iterate, gradient = (_flat(tensor) for tensor in (x, state["iterate"], gradient))
    lead = ops.cast(lead, x.dtype)
    gradient = ops.where(ops.isfinite(gradient), gradient, ops.zeros_like(gradient))
    moved = iterate - x
    rise = ops.sum(gradient * moved, axis=1)
    shrunk = ops.cast(ops.where(wrong, beta, 1.0), x.dtype)
    back = x + shrunk[:, None] * moved
    gaps = ops.stack([(1.0 - shrunk) * rise - lead, rise - lead])
    points = ops.stack([back, x])
    steps = step_to_hyperplane(gradient, gaps, bounds[0] - points, bounds[1] - points, norm)
    sizes = ops.reshape(lengths(ops.reshape(steps, (-1, ops.shape(x)[1])), norm), (2, -1))
    both = sizes[0] + sizes[1]
    alpha = ops.minimum(sizes[0] / ops.where(both > 0, both, 1.0), alpha_max)[:, None]
    onwards = points + eta * steps
    onwards = ops.clip((1.0 - alpha) * onwards[0] + alpha * onwards[1], bounds[0], bounds[1])
    return {**kept, "iterate": ops.reshape(onwards, shape)}


def keep_nearest(state, x, tried, wrong, margin, norm):
    """Returns the state with the point tried in place of the nearest that fools, if it is that.

    Until one is found, the candidate is whatever was tried last.

    Args:
        state: See `boundary_step`.
        x: See `boundary_step`.
        tried: Tensor like `x`.
        wrong: Whether it fools the model.
        margin: By how much.
        norm: See `boundary_step`.

    Returns:
        A dictionary of `x_adv`, `distance` and `margin`.
    """
    distance = lengths(tried - x, norm)
    nearer = ops.logical_and(wrong, distance < state["distance"])
    taken = ops.logical_or(nearer, state["distance"] == float("inf"))
    return {
        "x_adv": ops.where(by_row(taken, x), tried, state["x_adv"]),
        "distance": ops.where(nearer, distance, state["distance"]),
        "margin": ops.where(nearer, margin, state["margin"]),
    }


def boundary_distance(x, iterate, wrong, lead, gradient, norm, beta):
    """To first order, how far the boundary is from where the next step begins, if bounds allow.

    Args:
        x: See `boundary_step`.
        iterate: See `boundary_step`.
        wrong: See `boundary_step`.
        lead: See `boundary_step`.
        gradient: See `boundary_step`.
        norm: See `boundary_step`.
        beta: See `boundary_step`.

    Returns:
        A tensor of shape (batch,), infinite where the gradient is zero.
    """
    x, iterate, gradient = (_flat(tensor) for tensor in (x, iterate, gradient))
    gradient = ops.where(ops.isfinite(gradient), gradient, ops.zeros_like(gradient))
    slope = lengths(gradient, DUAL[norm])
    rise = ops.sum(gradient * (iterate - x), axis=1)
    gap = ops.cast(lead, x.dtype) - ops.where(wrong, (1.0 - beta) * rise, 0.0)
    distance = ops.absolute(gap) / ops.where(slope > 0, slope, 1.0)
    return ops.where(slope > 0, distance, float("inf"))


def _flat(tensor):
    return ops.reshape(tensor, (ops.shape(tensor)[0], -1))
