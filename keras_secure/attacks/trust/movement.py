"""Whether the attack gets anywhere."""

import numpy as np

from keras_secure.attacks.trust.points import corners
from keras_secure.attacks.trust.verdict import remark, verdict


def probe_movement(subject):
    """Compares the loss where the attack gave up with the loss of random points."""
    rows = subject.survivors
    if not len(rows):
        return verdict("movement", False, "The attack fooled every example.", {"survivors": 0})
    result = subject.result
    x_adv, labels = result.x_adv[rows], subject.labels[rows]
    unmoved = result.distance[rows] <= 1e-3 * subject.epsilon
    clean = subject.losses(subject.x[rows], labels)
    reached = subject.losses(x_adv, labels)
    random = corners(subject, rows, 16, subject.generator("movement"))
    by_chance = subject.losses(
        random.reshape(-1, *subject.x.shape[1:]), np.repeat(labels, 16)
    ).reshape(len(rows), 16)
    noise = subject.noise
    luckier = by_chance.max(axis=1) > reached + noise
    stuck = unmoved | ~(reached > clean + noise)
    evidence = {
        "survivors": len(rows),
        "share_never_left": float(unmoved.mean()),
        "share_loss_not_raised": float(stuck.mean()),
        "share_below_random_points": float(luckier.mean()),
    }
    bad = float(((stuck | luckier) & ~subject.flat[rows]).sum()) / len(subject)
    if bad > 0.1:
        return verdict(
            "movement",
            True,
            f"On {bad:.0%} of the examples the attack ended where it began, or at a lower loss "
            "than "
            "the best of 16 random points of the ball.",
            evidence,
            "There is nothing for it to follow: mend the gradient (see trust.gradients and "
            "trust.agreement), start at random, take larger steps.",
        )
    if bad > 0:
        return remark(
            "movement",
            f"On {bad:.1%} of the examples the attack did no better than random points.",
            evidence,
            "Use more restarts.",
        )
    return verdict("movement", False, "The attack raises the loss further than chance.", evidence)
