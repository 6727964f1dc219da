"""Whether bounds and radius fit the data."""

import numpy as np

from keras_secure.attacks.trust.verdict import remark, verdict


def probe_bounds(subject):
    """Compares the range of the inputs with the bounds and the radius."""
    low, high = float(subject.x.min()), float(subject.x.max())
    width = subject.bounds[1] - subject.bounds[0]
    filled = (high - low) / width
    size = float(np.prod(subject.x.shape[1:]))
    # The radius as a change of every value alike.
    each = subject.epsilon / {"linf": 1.0, "l2": size**0.5, "l1": size}[subject.norm]
    reach = each / (high - low) if high > low else float("inf")
    evidence = {
        "smallest": low,
        "largest": high,
        "bounds": list(subject.bounds),
        "share_of_bounds_filled": filled,
        "epsilon": subject.epsilon,
        "epsilon_in_widths_of_the_data": reach,
    }
    if filled < 0.01:
        return verdict(
            "bounds",
            True,
            f"The inputs lie within [{low:.4g}, {high:.4g}] and fill {filled:.2%} of the bounds: "
            "attack and data are in different units.",
            evidence,
            "Give the attack the bounds of the data (inputs scaled to [0, 1] want bounds=(0, "
            "1)), and "
            "epsilon in the same units.",
        )
    if subject.epsilon > 0 and reach < 2e-4 and subject.norm == "linf":
        return verdict(
            "bounds",
            True,
            f"Epsilon is {subject.epsilon:.3g} where the inputs span {high - low:.4g}: nothing can "
            "be fooled by so little.",
            evidence,
            "Give epsilon in the units of the inputs: 8/255 for inputs in [0, 1], 8 for [0, 255].",
        )
    if filled < 0.1:
        return remark(
            "bounds",
            f"The inputs fill {filled:.1%} of the bounds.",
            evidence,
            "Make sure that the bounds are those of valid inputs.",
        )
    return verdict("bounds", False, "Bounds and radius fit the data.", evidence)
