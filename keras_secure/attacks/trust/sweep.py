"""Robust accuracy over the radius: falling, and nothing left at the full range."""

from keras_secure.attacks.trust.reference import with_free_step
from keras_secure.attacks.trust.verdict import remark, verdict


def probe_sweep(subject):
    """Runs the attack at radii from a quarter to four times epsilon, each by itself."""
    factors = (0.25, 0.5, 1.0, 2.0, 4.0)
    attack = with_free_step(subject.attack)
    points: list[tuple[float, float]] = []
    for factor in factors:
        epsilon = min(factor * subject.epsilon, subject.full_range)
        own = factor == 1.0 or not points or epsilon > points[-1][0]
        if own:
            result = subject.result if factor == 1.0 else subject.attacked(epsilon, attack)
            points.append((epsilon, float(1 - result.success.mean())))
    rises = [
        (points[i][0], points[j][0], points[j][1] - points[i][1])
        for i in range(len(points))
        for j in range(i + 1, len(points))
    ]
    worst = max(rises, key=lambda rise: rise[2])
    evidence = {"curve": [{"epsilon": e, "accuracy": a} for e, a in points]}
    allowed = max(3 / len(subject), 0.06)
    if worst[2] > allowed:
        return verdict(
            "sweep",
            True,
            f"Robust accuracy rises by {worst[2]:.0%} from epsilon {worst[0]:.3g} to "
            f"{worst[1]:.3g}, "
            "though all that is allowed at the smaller one is allowed at the larger.",
            evidence,
            "The search fails at the larger radius: use more steps, a step size that follows "
            "epsilon, "
            "restarts, and an attack without gradients.",
        )
    if worst[2] > 1.5 / len(subject):
        return remark(
            "sweep",
            f"Robust accuracy rises by {worst[2]:.1%} with epsilon in one place.",
            evidence,
            "Use more steps or restarts.",
        )
    return verdict("sweep", False, "Robust accuracy falls with epsilon.", evidence)


def probe_full_range(subject):
    """Runs the attack at the radius that reaches every valid input."""
    attack = with_free_step(subject.attack)
    result = subject.attacked(subject.full_range, attack)
    left = float(1 - result.success.mean())
    evidence = {"epsilon": subject.full_range, "accuracy": left}
    reachable = len(set(subject.labels.tolist())) > 1
    if not reachable:
        return remark(
            "full_range",
            "Not decided: the examples are of one class, so nothing proves that another is "
            "reached.",
            evidence,
            "Give examples of all classes.",
        )
    failed = left > max(0.1, 2 / len(subject))
    return verdict(
        "full_range",
        failed,
        f"With every valid input allowed, {left:.0%} of the examples still withstand the attack, "
        "though examples of other classes are within reach."
        if failed
        else "With every valid input allowed, the attack fools the model.",
        evidence,
        "The attack fails, whatever the model: look for vanishing gradients and jumps (the other "
        "findings), and attack without gradients.",
    )
