"""Whether there is a gradient to follow at all."""

import numpy as np

from keras_secure.attacks.trust.points import inner
from keras_secure.attacks.trust.verdict import remark, verdict

POINTS = 3


def probe_gradients(subject):
    """Looks for gradients that are zero or not finite, at the examples and around them."""
    rows = np.arange(len(subject))
    generator = subject.generator("gradients")
    around = inner(subject, rows, POINTS, generator)
    points = np.concatenate([subject.x[rows][:, None], around], axis=1)
    flat = points.reshape(-1, *subject.x.shape[1:])
    losses, gradients = subject.slopes(flat, np.repeat(subject.labels, POINTS + 1))
    gradients = gradients.reshape(len(subject), POINTS + 1, -1)
    losses = losses.reshape(len(subject), POINTS + 1)
    broken = ~np.isfinite(gradients).all(axis=2) | ~np.isfinite(losses)
    zero = ~broken & (np.abs(np.where(broken[..., None], 1.0, gradients)).max(axis=2) == 0.0)
    coordinates = np.where(broken[..., None], 0.0, gradients) == 0.0
    evidence = {
        "share_of_examples_not_finite": float(broken.any(axis=1).mean()),
        "share_of_examples_zero_at_the_input": float(zero[:, 0].mean()),
        "share_of_points_zero": float(zero.mean()),
        "share_of_values_without_gradient": float(coordinates.mean()),
        "median_largest_entry": float(np.median(np.abs(gradients).max(axis=2)[~broken]))
        if (~broken).any()
        else None,
    }
    if broken.any():
        return verdict(
            "gradients",
            True,
            f"The gradient is NaN or infinite on {broken.any(axis=1).mean():.0%} of the examples, "
            "and an attack takes no step there.",
            evidence,
            "Find the operation whose derivative is not finite (sqrt, log or a division at zero, a "
            "norm of zero, an overflow) and make it safe, or replace its backward pass (BPDA).",
        )
    # Where the loss is the same all over the ball, zero is the right gradient.
    share = float(((zero.mean(axis=1) >= 0.5) & ~subject.flat).mean())
    evidence["share_of_examples_flat"] = float(subject.flat.mean())
    if share > 0.1:
        return verdict(
            "gradients",
            True,
            f"The gradient of the loss is exactly zero on {share:.0%} of the examples, though the "
            "loss changes within the ball: an attack that follows it does not move.",
            evidence,
            "Look for rounding, thresholds, lookups, stopped gradients or saturated units. Attack "
            "through them (BPDA: identity or a smooth copy in the backward pass), or without "
            "gradients (Square, HopSkipJump).",
        )
    if share > 0:
        return remark(
            "gradients",
            f"The gradient is exactly zero on {share:.1%} of the examples.",
            evidence,
            "Add an attack without gradients, such as Square, for these.",
        )
    return verdict("gradients", False, "Gradients are finite and not zero.", evidence)
