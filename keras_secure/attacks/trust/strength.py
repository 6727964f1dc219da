"""Whether more work finds more: steps, restarts, and the single step that should be beaten."""

from keras_secure.attacks.trust.reference import one_step
from keras_secure.attacks.trust.verdict import remark, verdict
from keras_secure.intervals import proportion_interval


def probe_single_step(subject):
    """Whether one step fools examples that the attack could not."""
    rows = subject.survivors
    if not len(rows):
        return verdict("single_step", False, "The attack fooled every example.", {"beaten": 0})
    beaten = int(one_step(subject, rows).sum())
    evidence = {"survivors": len(rows), "beaten": beaten}
    certain, _ = proportion_interval(beaten, len(subject))
    if certain > 0.02:
        return verdict(
            "single_step",
            True,
            f"A single step fools {beaten} of the {len(rows)} examples that the attack could not.",
            evidence,
            "Use more and smaller steps, restarts, and evaluate with several attacks.",
        )
    if beaten:
        return remark(
            "single_step",
            f"A single step fools {beaten} of the {len(rows)} examples that the attack could not.",
            evidence,
            "Add FGSM to the attacks, or use more restarts.",
        )
    return verdict("single_step", False, "A single step finds nothing more.", evidence)


def probe_convergence(subject):
    """Whether a longer search with more restarts and other losses finds more."""
    rows = subject.survivors
    if not len(rows):
        return verdict("convergence", False, "The attack fooled every example.", {"found": 0})
    found = int(subject.strongly_fooled.sum())
    accuracy = len(rows) / len(subject)
    evidence = {
        "survivors": len(rows),
        "found_by_more_work": found,
        "accuracy_by_the_attack": accuracy,
        "accuracy_by_more_work": accuracy - found / len(subject),
    }
    # One more in a hundred is what any longer search finds; what is certain is held against it.
    certain, _ = proportion_interval(found, len(subject))
    evidence["overstated_by_at_least"] = certain
    if certain > 0.07:
        return verdict(
            "convergence",
            True,
            f"More steps, restarts and targeted losses bring robust accuracy from {accuracy:.1%} "
            "to "
            f"{evidence['accuracy_by_more_work']:.1%}: the attack had not converged.",
            evidence,
            "Use more steps and restarts until the figure stays, or a stronger attack "
            "(AutoAttack).",
        )
    if found:
        return remark(
            "convergence",
            f"More steps, restarts and targeted losses fool {found} more of {len(subject)} "
            "examples.",
            evidence,
            "Use more steps and restarts, or a stronger attack, for the last percent.",
        )
    return verdict("convergence", False, "More work finds nothing more.", evidence)
