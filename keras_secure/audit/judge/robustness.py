"""How far accuracy falls under attack, and whether a defence is real."""

import itertools
import math
from collections.abc import Sequence

from keras_secure.audit.sections import RobustnessPoint, RobustnessSection
from keras_secure.audit.wording import number, percent, percent_range
from keras_secure.findings import Finding

BROKEN_BELOW = 0.30
"""Below this the attacker decides most answers; the models are compared where that happens."""

STRONG_GAIN = 0.40
"""A gain of forty points turns a model that mostly fails into one that mostly answers."""


def reference_epsilon(curves: dict[str, list[RobustnessPoint]], baseline: str) -> float | None:
    """The attack size at which the models are compared.

    It is the smallest size that breaks the baseline, which is fixed by the baseline alone: choosing
    the size with the widest gap would flatter the defence.

    Args:
        curves: Model name to curve.
        baseline: Name of the undefended model; without it the first curve is used.

    Returns:
        The size, or the largest one measured if none breaks the baseline; None without points.

    Example:

    >>> curve = [{"epsilon": e, "accuracy": a, "low": a, "high": a} for e, a in ((0, 1), (0.1, 0))]
    >>> reference_epsilon({"plain": curve}, "plain")
    0.1
    """
    curve = curves.get(baseline) or next(iter(curves.values()), [])
    points = sorted((p for p in curve if p["epsilon"] > 0.0), key=lambda p: p["epsilon"])
    broken = [point["epsilon"] for point in points if point["accuracy"] < BROKEN_BELOW]
    return broken[0] if broken else (points[-1]["epsilon"] if points else None)


def point_at(curve: Sequence[RobustnessPoint], epsilon: float | None) -> RobustnessPoint | None:
    """The measured point of a curve at one attack size, or None if it was not measured there."""
    if epsilon is None:
        return None
    return next((point for point in curve if math.isclose(point["epsilon"], epsilon)), None)


def judge_robustness(robustness: RobustnessSection, baseline: str) -> list[Finding]:
    """Judges every curve at the reference size, and its shape.

    Args:
        robustness: The curves.
        baseline: Name of the undefended model.

    Returns:
        One finding per model, and one more for each curve that no honest attack produces.
    """
    curves = robustness["curves"]
    epsilon = reference_epsilon(curves, baseline)
    against = point_at(curves.get(baseline, []), epsilon)
    findings = []
    for name, curve in curves.items():
        at = point_at(curve, epsilon)
        if at is not None:
            other = None if name == baseline else against
            findings.append(_judge_point(name, curve, at, other, baseline, robustness))
        findings += _judge_shape(name, curve)
    return findings


def _judge_point(name, curve, at, against, baseline, robustness) -> Finding:
    norm = f"{robustness['norm']} " if "norm" in robustness else ""
    size = f"{norm}epsilon {number(at['epsilon'])}"
    interval = percent_range(at["low"], at["high"])
    evidence = {**at, "attack": robustness.get("attack", "")}
    if not math.isfinite(at["accuracy"]):
        return Finding(
            f"robustness.{name}",
            "high",
            f"The accuracy of the {name} model at {size} is not a number, so nothing can be said "
            f"about it.",
            evidence,
            "Check the predictions for NaN, and whether any example was attacked.",
        )
    clean = point_at(curve, 0.0)
    if against is not None:
        gain = at["accuracy"] - against["accuracy"]
        evidence["gain"] = gain
        if gain >= STRONG_GAIN and at["low"] > against["high"]:
            return Finding(
                f"robustness.{name}",
                "ok",
                f"At {size} the {name} model keeps {percent(at['accuracy'])} ({interval}), "
                f"{100 * gain:.1f} points more than the {baseline} model.",
                evidence,
            )
    broken = at["accuracy"] < BROKEN_BELOW
    start = f" from {percent(clean['accuracy'])}" if clean is not None else ""
    compared = ""
    if against is not None:
        separate = at["low"] > against["high"] or at["high"] < against["low"]
        compared = (
            f"; the {baseline} model has {percent(against['accuracy'])} there"
            if separate
            else f", which cannot be told apart from the {baseline} model"
        )
    return Finding(
        f"robustness.{name}",
        "high" if broken else "medium",
        f"The {name} model's accuracy falls{start} to {percent(at['accuracy'])} ({interval}) at "
        f"{size}{compared}.",
        evidence,
        "Where an attacker can shape the input, train with an adversarial objective at this "
        "epsilon.",
    )


def _judge_shape(name, curve) -> list[Finding]:
    """A larger attack contains the smaller one, so accuracy may not rise with its size."""
    points = sorted(curve, key=lambda point: point["epsilon"])
    for smaller, larger in itertools.pairwise(points):
        if larger["low"] > smaller["high"]:
            return [
                Finding(
                    f"robustness.shape.{name}",
                    "high",
                    f"The {name} model seems more accurate at epsilon "
                    f"{number(larger['epsilon'])} ({percent(larger['accuracy'])}) than at "
                    f"{number(smaller['epsilon'])} ({percent(smaller['accuracy'])}): the attack "
                    f"fails, the model is not robust.",
                    {"smaller": dict(smaller), "larger": dict(larger)},
                    "The defence may only hide gradients: attack with more steps and restarts, and "
                    "with an attack that uses no gradients.",
                )
            ]
    return []
