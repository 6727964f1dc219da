"""Whether the privacy that was promised was kept, and what it does not cover."""

import math
from collections.abc import Mapping

from keras_secure.audit.sections import PrivacySection
from keras_secure.audit.wording import joined, number
from keras_secure.findings import Finding
from keras_secure.leakage import Contradiction, MembershipReport

WEAK_ABOVE = 10.0
"""At epsilon 10 one person can change the odds of an outcome by e^10 = 22,026: the formal guarantee
alone says little (Ponomareva et al. 2023, arXiv 2303.00654, section 5.2, tier 3)."""


def judge_privacy(
    privacy: PrivacySection, *attacks: Mapping[str, MembershipReport]
) -> list[Finding]:
    """Judges budget, strength, delta and reach of the guarantee, and tests it against attacks.

    Args:
        privacy: What the ledger says.
        *attacks: Model name to measured leakage, once per kind of attack; the private model's must
            respect the guarantee.

    Returns:
        The findings.
    """
    findings = [_judge_budget(privacy)]
    epsilon, delta = privacy["epsilon"], privacy["target_delta"]
    if math.isfinite(epsilon) and epsilon > WEAK_ABOVE:
        findings.append(
            Finding(
                "privacy.strength",
                "medium",
                f"Epsilon {number(epsilon)} is a weak guarantee: one example may change the odds "
                f"of an outcome by a factor of {number(math.exp(min(epsilon, 700.0)))}.",
                {"epsilon": epsilon},
                f"Aim below {number(WEAK_ABOVE)}: more noise, fewer epochs or more data.",
            )
        )
    if privacy.get("num_train") and delta > 1.0 / privacy["num_train"]:
        findings.append(
            Finding(
                "privacy.delta",
                "high",
                f"Delta {number(delta)} is above 1/n = {number(1.0 / privacy['num_train'])}, which "
                f"would allow publishing a whole example now and then.",
                {"delta": delta, "num_train": privacy["num_train"]},
                "Set target_delta below one over the number of training examples.",
            )
        )
    if privacy.get("exact_metrics"):
        findings.append(
            Finding(
                "privacy.metrics",
                "low",
                f"The training metrics {joined(list(privacy['exact_metrics']))} were shown without "
                f"noise: they are not private and epsilon does not cover them.",
                {"exact_metrics": list(privacy["exact_metrics"])},
                "Share the model and the figures on test data; keep logs and training history.",
            )
        )
    for attack in attacks:
        measured = attack.get(privacy.get("model", ""))
        found = measured.contradiction(epsilon, delta) if measured else None
        if measured and found:
            return [*findings, _contradiction(measured, found)]
    return findings


def _judge_budget(privacy: PrivacySection) -> Finding:
    epsilon, target = privacy["epsilon"], privacy.get("target_epsilon")
    evidence = {"epsilon": epsilon, "target_epsilon": target, "delta": privacy["target_delta"]}
    at_delta = f"at delta {number(privacy['target_delta'])}"
    reasons = list(privacy.get("reasons_not_private", []))
    if reasons or not math.isfinite(epsilon):
        because = "; ".join(reasons) or "the noise does not bound epsilon"
        return Finding(
            "privacy.budget",
            "critical",
            f"The run is not private: {because}.",
            {**evidence, "reasons": reasons},
            "Remove the cause and train again; do not quote an epsilon for this model.",
        )
    if target is None:
        return Finding(
            "privacy.budget",
            "info",
            f"Epsilon {number(epsilon)} {at_delta} was spent; no target was set.",
            evidence,
        )
    if epsilon > target:
        return Finding(
            "privacy.budget",
            "critical",
            f"Epsilon {number(epsilon)} {at_delta} was spent, above the target {number(target)}.",
            evidence,
            "Do not release this model under the target; calibrate the noise and train again.",
        )
    return Finding(
        "privacy.budget",
        "ok",
        f"Epsilon {number(epsilon)} of {number(target)} was spent {at_delta}: the budget was kept.",
        evidence,
    )


def _contradiction(measured: MembershipReport, found: Contradiction) -> Finding:
    return Finding(
        "privacy.contradiction",
        "critical",
        f"An attack ({measured.attack}) finds at least {number(found.tpr_low)} of the members "
        f"where the guarantee allows at most {number(found.allowed)}: the stated epsilon cannot be "
        f"true.",
        {"attack": measured.attack, "tpr_low": found.tpr_low, "allowed": found.allowed},
        "Check that members were trained on by this run only, and report the defect.",
    )
