"""The models side by side, and how they stand up to an attacker."""

from keras_secure.audit.chapters.chapter import Chapter, Table, model_names, with_interval
from keras_secure.audit.judge.robustness import point_at, reference_epsilon
from keras_secure.audit.wording import label, number, seconds


def models_chapter(report) -> Chapter | None:
    """Every model with its main figures."""
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
            row.append(with_interval(model))
        if curves:
            row.append(with_interval(point_at(curves.get(name, []), epsilon)))
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


def robustness_chapter(report) -> Chapter | None:
    """Accuracy by attack size."""
    if not report.robustness:
        return None
    curves = report.robustness["curves"]
    sizes = sorted({point["epsilon"] for curve in curves.values() for point in curve})
    rows = [
        [number(size), *(with_interval(point_at(curve, size)) for curve in curves.values())]
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


def examples_chapter(report) -> Chapter | None:
    """Predictions before and after the attack."""
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
    lead = (
        f"Pictured is the change made against the {report.baseline} model. Each model is asked "
        "about the original and about the change made against itself."
    )
    return Chapter("examples", "Adversarial examples", lead, [Table(columns, rows)])
