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
    attacked = (*report.membership, *report.lira, *report.one_run)
    if report.privacy.get("model") in attacked:
        notes.append(
            "Not private: the leakage figures are computed from the training examples "
            "themselves, and epsilon does not cover them."
        )
    lead = (
        "How much the released weights can depend on any one training example: a smaller epsilon "
        "is a stronger promise."
    )
    return Chapter("privacy", "Privacy", lead, [facts_table(facts)], notes)


def membership_chapter(report) -> Chapter | None:
    """The threshold attack and the likelihood ratio attack on every model."""
    measurements = [*report.membership.items(), *report.lira.items()]
    if not measurements:
        return None
    rates = [point.max_fpr for point in measurements[0][1].tpr_at_fpr]
    rows = [
        [
            name,
            measured.attack,
            "{:.3f} ({:.3f} to {:.3f})".format(measured.auc, *measured.auc_interval),
            *(
                f"{percent(point.tpr)} ({percent_range(*point.tpr_interval)})"
                for point in measured.tpr_at_fpr
            ),
            "n/a" if measured.advantage is None else f"{measured.advantage:.3f}",
            f"{number(measured.num_members)} / {number(measured.num_non_members)}",
        ]
        for name, measured in measurements
    ]
    columns = [
        "Model",
        "Attack",
        "AUC",
        *(f"Found at {number(100 * rate)}% false alarms" for rate in rates),
        "Advantage",
        "Members / others",
    ]
    lead = (
        "An attacker guesses that examples with a low loss were trained on, or (lira) compares the "
        "model with others trained with and without an example. An AUC of 0.5 is guessing, 1 is "
        "certainty."
    )
    return Chapter("membership", "Membership leakage", lead, [Table(columns, rows)])


def one_run_chapter(report) -> Chapter | None:
    """Lower bounds on epsilon by canaries."""
    if not report.one_run:
        return None
    rows = [
        [
            name,
            f"{measured.epsilon_lower:.3f}",
            number(measured.delta),
            percent(measured.confidence),
            f"{number(measured.num_correct)} of {number(measured.num_guesses)}",
            f"{number(measured.num_included)} of {number(measured.num_canaries)}",
        ]
        for name, measured in report.one_run.items()
    ]
    columns = [
        "Model",
        "Epsilon at least",
        "Delta",
        "Confidence",
        "Right guesses",
        "Canaries trained on",
    ]
    lead = (
        "Fair coins put canaries into the training data; how many coins can be guessed from the "
        "model bounds epsilon from below. A bound above the ledger's refutes the ledger."
    )
    return Chapter("one_run", "Audit in one run", lead, [Table(columns, rows)])
