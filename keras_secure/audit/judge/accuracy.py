"""What a defence costs in accuracy on clean data."""

import math
from collections.abc import Mapping

from keras_secure.audit.sections import ModelSection
from keras_secure.audit.wording import percent
from keras_secure.findings import Finding, Severity

SMALL_COST = 0.04
"""Up to four points is what adversarial training usually costs on small images: no flag."""

LARGE_COST = 0.10
"""Beyond ten points most users would notice, so the trade deserves a decision by a person."""


def judge_accuracy(models: Mapping[str, ModelSection], baseline: str) -> list[Finding]:
    """Compares the clean accuracy of every model with the baseline's.

    Args:
        models: Model name to measurements.
        baseline: Name of the undefended model; without it nothing is compared.

    Returns:
        One finding per other model.
    """
    if baseline not in models:
        return []
    reference = models[baseline]["accuracy"]
    findings = []
    for name, model in models.items():
        if name == baseline:
            continue
        cost = reference - model["accuracy"]
        if not math.isfinite(cost):
            findings.append(
                Finding(
                    f"accuracy.{name}",
                    "high",
                    f"The clean accuracy of the {name} model or of the {baseline} model is not a "
                    f"number, so nothing can be said about it.",
                    {"accuracy": model["accuracy"], "baseline_accuracy": reference},
                    "Check the predictions for NaN, and whether any example was measured.",
                )
            )
            continue
        # Rounded, because a cost of exactly four points is not above four points.
        severity: Severity = "ok"
        if round(cost, 9) > LARGE_COST:
            severity = "medium"
        elif round(cost, 9) > SMALL_COST:
            severity = "low"
        findings.append(
            Finding(
                f"accuracy.{name}",
                severity,
                f"On clean data the {name} model is right for {percent(model['accuracy'])}, "
                f"{_compared(cost)} the {baseline} model's {percent(reference)}.",
                {"accuracy": model["accuracy"], "baseline_accuracy": reference, "cost": cost},
                ""
                if severity == "ok"
                else "Decide whether the defence is worth this; a larger model, longer training or "
                "a weaker setting lowers the cost.",
            )
        )
    return findings


def _compared(cost: float) -> str:
    points = round(100.0 * abs(cost), 1)
    if points == 0.0:
        return "the same as"
    return f"{points:.1f} points {'below' if cost > 0 else 'above'}"
