"""Whether the gradient is that of the function: finite differences along segments of the ball.

Between two points the loss changes by the integral of its slope along the way. This holds for every
continuous model, however it bends, and for none whose gradient was stopped, faked or lost in steps.
The share of the change that the gradients do not account for is the measure.
"""

import numpy as np

from keras_secure.attacks.trust.points import corners
from keras_secure.attacks.trust.verdict import remark, verdict

PIECES = 16
EXAMPLES = 20
SCALES = (1.0, 1 / 32)


def probe_agreement(subject):
    """Compares slopes with differences, along random and gradient directions, at two scales."""
    rows = np.arange(min(len(subject), EXAMPLES))
    generator = subject.generator("agreement")
    ends = {
        "random": corners(subject, rows, 1, generator)[:, 0],
        "gradient": _uphill(subject, rows),
    }
    unexplained = {
        f"{name}_{scale:g}": _unexplained(subject, rows, end, scale)
        for name, end in ends.items()
        for scale in SCALES
    }
    medians = {name: float(np.median(values)) for name, values in unexplained.items()}
    shares = {name: float(np.mean(values > 0.5)) for name, values in unexplained.items()}
    evidence = {"median_unexplained": medians, "share_beyond_half": shares}
    worst = max(medians.values())
    share = max(shares.values())
    if worst > 0.35 or share > 0.3:
        return verdict(
            "agreement",
            True,
            "The gradient is not that of the loss: along straight ways through the ball it leaves "
            f"{worst:.0%} of the change unexplained (median), and more than half of it on "
            f"{share:.0%} "
            "of the examples.",
            evidence,
            "Look for rounding, winner-takes-all, stopped or replaced gradients and oscillating "
            "terms. Attack a copy without them (BPDA), average gradients over the neighbourhood, "
            "or "
            "attack without gradients (Square).",
        )
    if worst > 0.2:
        return remark(
            "agreement",
            f"The gradient leaves {worst:.0%} of the change unexplained (median): the loss bends "
            "much "
            "within the ball.",
            evidence,
            "Use more and smaller steps, more restarts, and Square beside the gradient attack.",
        )
    return verdict(
        "agreement", False, "Gradients agree with finite differences at every scale.", evidence
    )


def _uphill(subject, rows):
    from keras_secure.attacks.directions import ascent_direction

    _, gradient = subject.slopes(subject.x[rows], subject.labels[rows])
    gradient = np.where(np.isfinite(gradient), gradient, 0.0).astype("float32")
    step = np.asarray(ascent_direction(gradient, subject.x[rows], subject.norm, subject.bounds))
    end = subject.held(subject.x[rows] + subject.epsilon * step, rows)
    # Without a gradient there is no such direction; a random one stands in.
    lost = np.abs(step).reshape(len(rows), -1).max(axis=1) == 0
    if lost.any():
        random = corners(subject, rows[lost], 1, subject.generator("uphill"))[:, 0]
        end[lost] = random
    return end


def _unexplained(subject, rows, end, scale):
    labels = subject.labels[rows]
    origin = subject.x[rows].astype("float64")
    way = (end.astype("float64") - origin) * scale
    places = np.linspace(0.0, 1.0, PIECES + 1)
    shape = (len(rows), -1) + (1,) * (origin.ndim - 1)
    ends = (origin[:, None] + way[:, None] * places.reshape(1, *shape[1:])).astype("float32")
    centres = (ends[:, 1:].astype("float64") + ends[:, :-1]) / 2
    steps = ends[:, 1:].astype("float64") - ends[:, :-1]

    at_ends = subject.losses(ends.reshape(-1, *origin.shape[1:]), np.repeat(labels, PIECES + 1))
    changes = np.diff(at_ends.reshape(len(rows), -1), axis=1)
    _, gradients = subject.slopes(
        centres.reshape(-1, *origin.shape[1:]).astype("float32"), np.repeat(labels, PIECES)
    )
    gradients = gradients.reshape(centres.shape).astype("float64")
    predicted = (gradients * steps).reshape(len(rows), PIECES, -1).sum(axis=2)

    noise = subject.noise
    with np.errstate(invalid="ignore"):
        missed = np.maximum(np.abs(changes - predicted) - noise, 0.0).sum(axis=1)
    total = np.maximum(np.abs(changes), np.abs(predicted)).sum(axis=1) + PIECES * noise
    return np.where(np.isfinite(missed), missed / total, 1.0)
