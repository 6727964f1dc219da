"""Whether the model gives away who it was trained on."""

from collections.abc import Mapping

from keras_secure.audit.membership import MembershipReport
from keras_secure.audit.wording import percent
from keras_secure.findings import Finding, Severity

CLEAR_LEAK = 0.60
"""From here the attacker is right for three of five pairs; overfitted classifiers are here."""

SLIGHT_LEAK = 0.55
"""Below, the leak is measurable with many examples but of little use against one person."""

TARGETED_FACTOR = 3.0
"""Naming members three times more often than guessing would: some people are exposed even if the
average is safe."""


def judge_membership(membership: Mapping[str, MembershipReport]) -> list[Finding]:
    """Judges the threshold attack on every model.

    Args:
        membership: Model name to measured leakage.

    Returns:
        One finding per model.
    """
    return [_judge_model(name, measured) for name, measured in membership.items()]


def _judge_model(name: str, measured: MembershipReport) -> Finding:
    low, high = measured.auc_interval
    figures = f"AUC {measured.auc:.3f} ({low:.3f} to {high:.3f})"
    exposed = [
        point
        for point in measured.tpr_at_fpr
        if point.tpr_interval[0] > TARGETED_FACTOR * point.max_fpr
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
            f"membership.{name}",
            "info",
            f"Members of the {name} model have higher losses than non-members, {figures}: the two "
            f"groups are not alike, so this says nothing about leakage.",
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
            f"membership.{name}",
            "ok",
            f"By its loss, a member of the {name} model cannot be told from a non-member, "
            f"{figures}. Stronger attacks may do better.",
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
        f"membership.{name}",
        severity,
        f"{statement}.",
        evidence,
        "Train with differential privacy, or reduce overfitting: fewer epochs, more data, "
        "stronger regularization.",
    )
