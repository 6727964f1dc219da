"""Whether the model gives away who it was trained on."""

from collections.abc import Mapping
from typing import Literal

from keras_secure.audit.wording import percent
from keras_secure.findings import Finding, Severity
from keras_secure.leakage import MembershipReport

CLEAR_LEAK = 0.60
"""From here the attacker is right for three of five pairs; overfitted classifiers are here."""

SLIGHT_LEAK = 0.55
"""Below, the leak is measurable with many examples but of little use against one person."""

TARGETED_FACTOR = 3.0
"""Naming members three times more often than guessing would: some people are exposed even if the
average is safe."""


_LOOKED_AT = {"membership": "By its loss", "lira": "By comparison with shadow models"}


def judge_membership(
    membership: Mapping[str, MembershipReport], attack: Literal["membership", "lira"] = "membership"
) -> list[Finding]:
    """Judges one kind of membership attack on every model.

    Args:
        membership: Model name to measured leakage.
        attack: `"membership"` for the threshold attack, or `"lira"`; it begins the findings' ids.

    Returns:
        One finding per model.
    """
    return [_judge_model(name, measured, attack) for name, measured in membership.items()]


def _judge_model(name: str, measured: MembershipReport, attack: str) -> Finding:
    low, high = measured.auc_interval
    figures = f"AUC {measured.auc:.3f} ({low:.3f} to {high:.3f})"
    exposed = [
        point
        for point in measured.tpr_at_fpr
        # With few non-members the true false-positive rate may be far above the one aimed at.
        if point.tpr_interval[0] > max(TARGETED_FACTOR * point.max_fpr, point.fpr_interval[1])
    ]
    evidence = {
        "auc": measured.auc,
        "auc_low": low,
        "auc_high": high,
        "num_members": measured.num_members,
        "num_non_members": measured.num_non_members,
    }
    severity: Severity = "ok"
    if high < 0.5:
        return Finding(
            f"{attack}.{name}",
            "info",
            f"Members of the {name} model look less like members than non-members do, {figures}: "
            f"the two groups are not alike, so this says nothing about leakage.",
            evidence,
            "Draw members and non-members at random from the same distribution.",
        )
    if low > 0.5:
        severity = "low"
        if measured.auc >= CLEAR_LEAK:
            severity = "high"
        elif measured.auc >= SLIGHT_LEAK:
            severity = "medium"
    if exposed and severity in ("ok", "low"):
        severity = "medium"
    if severity == "ok":
        return Finding(
            f"{attack}.{name}",
            "ok",
            f"{_LOOKED_AT[attack]}, a member of the {name} model cannot be told from a "
            f"non-member, {figures}. Stronger attacks may do better.",
            evidence,
        )
    statement = f"The {name} model leaks who it was trained on, {figures}"
    if exposed:
        point = exposed[0]
        evidence["tpr"] = point.tpr
        statement += (
            f"; {percent(point.tpr)} of the members are found at {percent(point.max_fpr)} false "
            f"alarms"
        )
    return Finding(
        f"{attack}.{name}",
        severity,
        f"{statement}.",
        evidence,
        "Train with differential privacy, or reduce overfitting: fewer epochs, more data, "
        "stronger regularization.",
    )
