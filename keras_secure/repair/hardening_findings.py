"""What a hardening comes to, in a sentence and its evidence."""

from keras_secure.findings import Finding


def hardening_findings(watch, before, after, target, max_clean_drop, refuted, too_dear, restored):
    """Says whether a model was hardened, and where not, why.

    Args:
        watch: The `HardeningWatch` of the training.
        before: `RobustnessReport` of the report's examples before it.
        after: The same after it.
        target: Robust accuracy that was asked for.
        max_clean_drop: How much clean accuracy was allowed to fall.
        refuted: Whether the final evaluation refutes the target.
        too_dear: Whether it refutes the clean accuracy.
        restored: Whether the model got its original weights back.

    Returns:
        A tuple of one `Finding`.
    """
    last = max(watch.history, key=lambda row: row["robust"])
    evidence = {
        "target_robust_accuracy": float(target),
        "max_clean_drop": float(max_clean_drop),
        "clean_before": before.clean.to_dict(),
        "clean_after": after.clean.to_dict(),
        "worst_case_before": before.worst_case.to_dict(),
        "worst_case_after": after.worst_case.to_dict(),
        "highest_robust_accuracy_of_an_epoch": last,
    }
    kept = " The original weights were restored." if restored else ""
    if not watch.done:
        return (
            Finding(
                "repair.hardening",
                "high",
                f"No epoch met the target of {target:.1%} within a clean drop of "
                f"{max_clean_drop:.1%}; the most robust one had {last['robust']:.1%} at a clean "
                f"accuracy of {last['clean']:.1%}.{kept}",
                evidence,
                "Train for more epochs, on more data or with a larger model, allow a larger drop, "
                "or ask for less.",
            ),
        )
    if refuted or too_dear:
        found = (
            f"Stronger attacks leave {after.worst_case.value:.1%}, below the target of {target:.1%}"
            if refuted
            else f"On the examples of the report clean accuracy fell to {after.clean.value:.1%}"
        )
        return (
            Finding(
                "repair.hardening",
                "high",
                f"The target was met by the given attack on the examples that decided, but not "
                f"beyond: {found}.{kept}",
                evidence,
                "Measure by a stronger attack (APGD, AutoAttack) and on more examples, and harden "
                "again.",
            ),
        )
    sure = after.worst_case.low >= target
    return (
        Finding(
            "repair.hardening",
            "ok" if sure or after.worst_case.value >= target else "low",
            f"Robust accuracy rose from {before.worst_case.value:.1%} to "
            f"{after.worst_case.value:.1%} by the strongest attacks, clean accuracy went from "
            f"{before.clean.value:.1%} to {after.clean.value:.1%}.",
            evidence,
            "" if sure else "Measure on more examples to be sure of the target.",
        ),
    )
