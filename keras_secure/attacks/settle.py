"""The last word on distance and bounds, in float64 and in the dtype the user holds."""

import numpy as np

ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}

SLACK = 1e-6
"""Relative excess over `epsilon` that is let pass as rounding."""


def distances(x_adv, x, norm):
    """Distance of each example from its original, in float64.

    Args:
        x_adv: Array of shape (num_examples, ...).
        x: Array like `x_adv`.
        norm: `"linf"`, `"l2"` or `"l1"`.

    Returns:
        A float64 array of shape (num_examples,).

    Example:

    >>> distances(np.ones((1, 2)), np.zeros((1, 2)), "l1")
    array([2.])
    """
    delta = x_adv.astype("float64") - x.astype("float64")
    return np.linalg.norm(delta.reshape(len(delta), -1), ord=ORDERS[norm], axis=1)


def settle(x_adv, x, epsilon, norm, bounds):
    """Returns `x_adv` in the dtype of `x`, with ball and box held in float64.

    Arithmetic in float32 leaves the ball by an ulp of the input, which is more than a relative
    1e-6 of a small `epsilon`. Values that the dtype of `x` cannot hold are rounded away from `x`,
    or, where that would leave the ball, towards it, which never lengthens the distance.

    Args:
        x_adv: Array of shape (num_examples, ...), outside the ball by rounding at most.
        x: Array like `x_adv`, inside `bounds`.
        epsilon: Radius.
        norm: `"linf"`, `"l2"` or `"l1"`; any other stands for an attack that no norm bounds, where
            only the box is held.
        bounds: Smallest and largest allowed value.

    Returns:
        An array of the shape and dtype of `x`; rows that need nothing are as they were.

    Example:

    >>> x = np.array([[0.7]], "float32")
    >>> x_adv = settle(x + np.float32(0.01), x, 0.01, "linf", (0.0, 1.0))
    >>> bool(distances(x_adv, x, "linf")[0] <= 0.01)
    True
    """
    if x_adv.dtype == x.dtype:
        held = _held(x_adv, x, epsilon, norm, bounds)
        if held.all():
            return x_adv
        if held.any():
            settled = x_adv.copy()
            settled[~held] = settle(x_adv[~held], x[~held], epsilon, norm, bounds)
            return settled
    centre = x.astype("float64")
    delta = x_adv.astype("float64") - centre
    # A step that overflowed has found nothing; NaN would count as fooling the model.
    delta[~np.isfinite(delta)] = 0.0
    length = distances(centre + delta, x, norm) if norm in ORDERS else np.zeros(len(x))
    outside = length > epsilon * (1 + SLACK)
    if outside.any():
        if norm == "linf":
            shorter = np.clip(delta[outside], -epsilon, epsilon)
        else:
            scale = epsilon / length[outside]
            shorter = delta[outside] * scale.reshape(-1, *[1] * (delta.ndim - 1))
        delta[outside] = shorter
    exact = np.clip(centre + delta, np.minimum(bounds[0], centre), np.maximum(bounds[1], centre))
    rounded = exact.astype(x.dtype)
    inward = np.where(_longer(rounded, exact, centre), np.nextafter(rounded, x), rounded)
    if np.array_equal(inward, exact):
        return inward
    # Away from `x` where the ball has room: what lies just beyond a boundary has to stay there.
    outward = np.where(_longer(exact, rounded, centre), _next(rounded, exact), rounded)
    fits = (outward >= np.minimum(bounds[0], centre)) & (outward <= np.maximum(bounds[1], centre))
    outward = np.where(fits, outward, inward)
    length = distances(outward, x, norm) if norm in ORDERS else np.zeros(len(x))
    room = (length <= epsilon).reshape(-1, *[1] * (x.ndim - 1))
    return np.where(room, outward, inward)


def _held(x_adv, x, epsilon, norm, bounds):
    """Which rows are in ball and box already; one that is not finite is in neither."""
    inside = (x_adv >= np.minimum(bounds[0], x)) & (x_adv <= np.maximum(bounds[1], x))
    inside = inside.reshape(len(x), -1).all(axis=1)
    if norm not in ORDERS:
        return inside
    return inside & (distances(x_adv, x, norm) <= epsilon * (1 + SLACK))


def _longer(one, other, centre):
    return np.abs(one.astype("float64") - centre) > np.abs(other - centre)


def _next(rounded, exact):
    """The neighbour of `rounded` on the side of `exact`."""
    side = np.where(exact > rounded, np.inf, -np.inf).astype(rounded.dtype)
    return np.nextafter(rounded, side)
