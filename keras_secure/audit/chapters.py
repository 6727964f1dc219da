"""The tables of a report, in reading order: written once, rendered as Markdown and as HTML."""

from dataclasses import dataclass, field

from keras_secure.audit.judge.robustness import point_at, reference_epsilon
from keras_secure.audit.wording import label, number, percent, percent_range, seconds


@dataclass(frozen=True)
class Table:
    """Text cells under column names.

    Args:
        columns: Column names; the first column is text, the others are figures.
        rows: One list of cells per row, as long as `columns`.
    """

    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Chapter:
    """One part of the report.

    Args:
        key: Stable name, also the anchor.
        title: Heading.
        lead: What the reader is looking at, and how it was measured.
        tables: Tables in order.
        notes: Short remarks below the tables.
    """

    key: str
    title: str
    lead: str
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def chapters(report) -> list[Chapter]:
    """Words every section that an audit has.

    Args:
        report: An `AuditReport`.

    Returns:
        The chapters in reading order; what was not measured has none.
    """
    writers = (
        _models,
        _robustness,
        _examples,
        _privacy,
        _membership,
        _watermark,
        _integrity,
        _serving,
        _data,
        _timings,
        _environment,
    )
    return [chapter for chapter in (write(report) for write in writers) if chapter is not None]


def model_names(report) -> list[str]:
    """Every model that any section measured, in the order of first mention."""
    curves = report.robustness["curves"] if report.robustness else {}
    return list(dict.fromkeys([*report.models, *curves, *report.membership]))


def _facts(pairs) -> Table:
    return Table(["Measure", "Value"], [[name, number(value)] for name, value in pairs])


def _present(section, names) -> list[tuple[str, object]]:
    return [(label, section[key]) for key, label in names if section.get(key) is not None]


def _models(report):
    names = model_names(report)
    if not names:
        return None
    curves = report.robustness["curves"] if report.robustness else {}
    epsilon = reference_epsilon(curves, report.baseline)
    columns = ["Model"]
    for wanted, title in (
        (report.models, "Clean accuracy"),
        (curves, f"Under attack, \N{GREEK SMALL LETTER EPSILON} = {number(epsilon)}"),
        (report.membership, "Membership AUC"),
        (report.privacy, "Privacy \N{GREEK SMALL LETTER EPSILON}"),
        (_any(report.models, "num_parameters"), "Parameters"),
        (_any(report.models, "training_seconds"), "Training"),
    ):
        if wanted:
            columns.append(title)
    rows = []
    for name in names:
        row, model = [name], report.models.get(name, {})
        if report.models:
            row.append(_with_interval(model))
        if curves:
            row.append(_with_interval(point_at(curves.get(name, []), epsilon)))
        if report.membership:
            measured = report.membership.get(name)
            row.append("n/a" if measured is None else f"{measured.auc:.3f}")
        if report.privacy:
            private = report.privacy.get("model") == name
            row.append(number(report.privacy["epsilon"]) if private else "none")
        if _any(report.models, "num_parameters"):
            row.append(number(model.get("num_parameters")))
        if _any(report.models, "training_seconds"):
            row.append(seconds(model.get("training_seconds")))
        rows.append(row)
    notes = [
        f"{name}: {model['description']}"
        for name, model in report.models.items()
        if model.get("description")
    ]
    lead = "The models side by side, on test data. Ranges are 95% confidence intervals."
    return Chapter("models", "Models at a glance", lead, [Table(columns, rows)], notes)


def _any(models, key) -> bool:
    return any(model.get(key) is not None for model in models.values())


def _with_interval(point) -> str:
    if not point:
        return "n/a"
    interval = percent_range(point.get("low"), point.get("high"))
    return percent(point["accuracy"]) + (f" ({interval})" if interval else "")


def _robustness(report):
    if not report.robustness:
        return None
    curves = report.robustness["curves"]
    sizes = sorted({point["epsilon"] for curve in curves.values() for point in curve})
    rows = [
        [number(size), *(_with_interval(point_at(curve, size)) for curve in curves.values())]
        for size in sizes
    ]
    lead = "Accuracy as the attacker is allowed larger changes; zero is clean data."
    if report.robustness.get("attack"):
        lead += f" Attack: {report.robustness['attack']}."
    if report.robustness.get("num_examples"):
        lead += f" Measured on {number(report.robustness['num_examples'])} test examples."
    norm = report.robustness.get("norm")
    first = "\N{GREEK SMALL LETTER EPSILON}" + (f" ({norm})" if norm else "")
    return Chapter("robustness", "Robustness", lead, [Table([first, *curves], rows)])


def _examples(report):
    if not report.adversarial_examples:
        return None
    names = list(
        dict.fromkeys(
            name
            for example in report.adversarial_examples
            for key in ("before", "after")
            for name in example.get(key, {})
        )
    )
    rows = [
        [
            str(index),
            label(example["label"]),
            *(
                f"{label(example.get('before', {}).get(name))} \N{RIGHTWARDS ARROW} "
                f"{label(example.get('after', {}).get(name))}"
                for name in names
            ),
        ]
        for index, example in enumerate(report.adversarial_examples, start=1)
    ]
    columns = ["Example", "True label", *(f"{name} says" for name in names)]
    lead = "What each model says before and after the change that the attacker made."
    return Chapter("examples", "Adversarial examples", lead, [Table(columns, rows)])


def _privacy(report):
    if not report.privacy:
        return None
    facts = _present(
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
    return Chapter("privacy", "Privacy", lead, [_facts(facts)], notes)


def _membership(report):
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


def _watermark(report):
    if not report.watermark:
        return None
    mark = report.watermark
    facts = _present(mark, (("model", "Model"), ("method", "Method"), ("layer", "Layer")))
    facts += [("Bits", mark["bits"]), ("Bit error rate", percent(mark["ber"]))]
    facts += [("p-value", mark["p_value"])]
    lead = "The owner's key reads a hidden message from the weights; the p-value is its chance in "
    return Chapter("watermark", "Watermark", f"{lead}an unmarked model.", [_facts(facts)])


def _integrity(report):
    if not report.integrity:
        return None
    bundle = report.integrity
    facts = [("Signature verifies", bundle["verified"])]
    if "files" in bundle:
        facts.append(("Signed files", len(bundle["files"])))
    facts += _present(bundle, (("key_fingerprint", "Key fingerprint"),))
    if "tamper" in bundle:
        tamper = bundle["tamper"]
        facts += [
            ("Byte flipped in", tamper["file"]),
            ("Change refused", tamper["detected"]),
            ("File named", tamper.get("named") or "none"),
        ]
    notes = [f"Signed: {', '.join(bundle['files'])}"] if bundle.get("files") else []
    lead = "The exported bundle is signed; a copy with one flipped byte must be refused."
    return Chapter("integrity", "Integrity", lead, [_facts(facts)], notes)


def _serving(report):
    if not report.serving:
        return None
    facts = _present(
        report.serving,
        (
            ("num_examples", "Examples compared"),
            ("max_difference", "Largest difference of predictions"),
            ("tolerance", "Difference allowed"),
            ("nan_handled", "NaN input handled"),
            ("out_of_range_handled", "Out-of-range input handled"),
        ),
    )
    if "guards" in report.serving:
        facts.append(("Guards in the graph", report.serving["guards"] or "none"))
    lead = "The exported model, run in a process of its own, against the trained one."
    return Chapter("serving", "Serving", lead, [_facts(facts)])


def _data(report):
    if not report.data:
        return None
    facts = _present(
        report.data,
        (
            ("name", "Data set"),
            ("num_train", "Training examples"),
            ("num_test", "Test examples"),
            ("num_classes", "Classes"),
        ),
    )
    if report.data.get("shape"):
        facts.append(
            ("Example shape", " \N{MULTIPLICATION SIGN} ".join(map(str, report.data["shape"])))
        )
    lead = "What the models were trained and measured on."
    return Chapter("data", "Data", lead, [_facts(facts)], list(report.data.get("notes", [])))


def _timings(report):
    if not report.timings:
        return None
    rows = [[name, seconds(value)] for name, value in report.timings.items()]
    rows.append(["Total", seconds(sum(report.timings.values()))])
    lead = "Wall-clock time of every step of this audit."
    return Chapter("timings", "Timings", lead, [Table(["Step", "Time"], rows)])


def _environment(report):
    rows = [[name, version] for name, version in report.environment.items()]
    lead = "The versions that produced these figures."
    return Chapter("environment", "Environment", lead, [Table(["Component", "Version"], rows)])
