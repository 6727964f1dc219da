"""What the models give away about their training data."""

from keras_secure.audit.chapters.chapter import Chapter, Table, facts_table, present
from keras_secure.audit.wording import number, percent, percent_range


def privacy_chapter(report) -> Chapter | None:
    """The private model and what its guarantee does not cover."""
    if not report.privacy:
        return None
    facts = present(
        report.privacy,
        (
            ("model", "Model"),
            ("epsilon", "Epsilon spent"),
            ("target_epsilon", "Epsilon allowed"),
            ("target_delta", "Delta"),
            ("noise_multiplier", "Noise multiplier"),
            ("l2_norm_clip", "L2 norm clip"),
            ("steps", "Optimizer steps"),
            ("sampling", "Sampling"),
            ("accountant", "Accountant"),
            ("num_train", "Training examples"),
        ),
    )
    notes = [f"Not private: {reason}." for reason in report.privacy.get("reasons_not_private", [])]
    if report.privacy.get("exact_metrics"):
        metrics = ", ".join(report.privacy["exact_metrics"])
        notes.append(f"Not private: the training metrics {metrics} were computed without noise.")
    if report.privacy.get("model") in report.membership:
        notes.append(
            "Not private: the membership figures are computed from the training examples "
            "themselves, and epsilon does not cover them."
        )
    lead = (
        "How much the released weights can depend on any one training example: a smaller epsilon "
        "is a stronger promise."
    )
    return Chapter("privacy", "Privacy", lead, [facts_table(facts)], notes)


def membership_chapter(report) -> Chapter | None:
    """The threshold attack on every model."""
    if not report.membership:
        return None
    rates = [point.max_fpr for point in next(iter(report.membership.values())).tpr_at_fpr]
    rows = [
        [
            name,
            "{:.3f} ({:.3f} to {:.3f})".format(measured.auc, *measured.auc_interval),
            *(
                f"{percent(point.tpr)} ({percent_range(*point.tpr_interval)})"
                for point in measured.tpr_at_fpr
            ),
            f"{measured.advantage:.3f}",
            f"{number(measured.num_members)} / {number(measured.num_non_members)}",
        ]
        for name, measured in report.membership.items()
    ]
    columns = [
        "Model",
        "AUC",
        *(f"Found at {percent(rate, 0)} false alarms" for rate in rates),
        "Advantage",
        "Members / others",
    ]
    lead = (
        "An attacker guesses that examples with a low loss were trained on. An AUC of 0.5 is "
        "guessing, 1 is certainty."
    )
    return Chapter("membership", "Membership leakage", lead, [Table(columns, rows)])
