"""Whether the answer jumps: the largest change on a way through the ball, narrowed down."""

import numpy as np

from keras_secure.attacks.trust.points import corners
from keras_secure.attacks.trust.verdict import verdict

PIECES = 16
HALVINGS = 9
EXAMPLES = 48


def probe_continuity(subject):
    """Narrows down the steepest piece of a random way; a change that stays is a jump."""
    rows = np.arange(min(len(subject), EXAMPLES))
    labels = subject.labels[rows]
    origin = subject.x[rows].astype("float64")
    end = corners(subject, rows, 1, subject.generator("continuity"))[:, 0].astype("float64")
    column = (-1,) + (1,) * (origin.ndim - 1)

    def losses(places):
        points = origin + (end - origin) * places.reshape(column)
        return subject.losses(points.astype("float32"), labels)

    grid = np.linspace(0.0, 1.0, PIECES + 1)
    values = np.stack([losses(np.full(len(rows), place)) for place in grid], axis=1)
    with np.errstate(invalid="ignore"):
        steepest = np.nan_to_num(np.abs(np.diff(values, axis=1)), nan=0.0).argmax(axis=1)
    each = np.arange(len(rows))
    low, high = grid[steepest], grid[steepest + 1]
    at_low, at_high = values[each, steepest], values[each, steepest + 1]
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        at_middle = losses(middle)
        left = np.abs(at_middle - at_low) > np.abs(at_high - at_middle)
        low, at_low = np.where(left, low, middle), np.where(left, at_low, at_middle)
        high, at_high = np.where(left, middle, high), np.where(left, at_middle, at_high)
    jump = np.abs(at_high - at_low)
    travelled = np.ptp(values, axis=1)
    # Half precision steps too, by a share of the logits; so small a step hides nothing.
    jump = np.maximum(jump - 4 * subject.noise, 0.0)
    measure = jump / np.maximum(travelled + 0.1 * np.abs(values[:, 0]), 1e-12)
    measure = np.where(np.isfinite(measure), measure, 1.0)
    share = float(np.mean(measure > 0.04))
    evidence = {
        "share_of_examples_that_jump": share,
        "median_jump": float(np.median(measure)),
        "width_in_epsilons": 1.0 / PIECES / 2**HALVINGS,
    }
    return verdict(
        "continuity",
        share > 0.15,
        f"The loss jumps on {share:.0%} of the examples: it changes at once, within "
        f"{evidence['width_in_epsilons']:.1g} epsilon, where a gradient says nothing about the "
        "other "
        "side."
        if share > 0.15
        else "The loss changes without jumps.",
        evidence,
        "Look for rounding, thresholds, winner-takes-all, lookups or activations of huge slope. "
        "Attack "
        "a smooth copy of them (BPDA) or without gradients (Square, HopSkipJump).",
    )
