"""The audit in a terminal's width."""

from keras_secure.audit.chapters import model_names
from keras_secure.audit.judge.robustness import point_at, reference_epsilon
from keras_secure.audit.wording import number, percent, seconds
from keras_secure.findings import SEVERITIES

WIDTH = 100
_NAME_WIDTH = 18


def summary_table(report) -> str:
    """The main figures of an audit as aligned plain text, at most 100 columns wide.

    Args:
        report: An `AuditReport`.

    Returns:
        The text without a trailing newline.

    Example:

    >>> from keras_secure.audit import AuditReport
    >>> report = AuditReport(models={"plain": {"accuracy": 0.987, "training_seconds": 3.2}})
    >>> print(summary_table(report).splitlines()[0])
    model  clean accuracy  trained in
    """
    lines = _aligned(_model_rows(report)) if model_names(report) else []
    facts = _facts(report)
    if facts:
        width = max(len(name) for name, _ in facts)
        lines += [""] if lines else []
        lines += [f"{name:<{width}}  {value}" for name, value in facts]
    return "\n".join(_cut(line, WIDTH) for line in lines)


def _model_rows(report) -> list[list[str]]:
    curves = report.robustness["curves"] if report.robustness else {}
    epsilon = reference_epsilon(curves, report.baseline)
    rows = [["model"]]
    rows[0] += ["clean accuracy"] if report.models else []
    rows[0] += [f"attacked (eps {number(epsilon)})"] if curves else []
    rows[0] += ["membership AUC"] if report.membership else []
    rows[0] += ["privacy epsilon"] if report.privacy else []
    timed = any("training_seconds" in model for model in report.models.values())
    rows[0] += ["trained in"] if timed else []
    for name in model_names(report):
        model, row = report.models.get(name, {}), [_cut(name, _NAME_WIDTH)]
        if report.models:
            row.append(percent(model.get("accuracy")))
        if curves:
            point = point_at(curves.get(name, []), epsilon)
            row.append(percent(point["accuracy"] if point else None))
        if report.membership:
            measured = report.membership.get(name)
            row.append(f"{measured.auc:.3f}" if measured else "n/a")
        if report.privacy:
            private = report.privacy.get("model") == name
            row.append(number(report.privacy["epsilon"]) if private else "none")
        if timed:
            row.append(seconds(model.get("training_seconds")))
        rows.append(row)
    return rows


def _facts(report) -> list[tuple[str, str]]:
    facts = []
    for name, measured in report.one_run.items():
        bound = f"at least {number(measured.epsilon_lower)} at delta {number(measured.delta)}"
        facts.append((f"epsilon, {_cut(name, _NAME_WIDTH)}", f"{bound} by the audit in one run"))
    if report.watermark:
        mark = report.watermark
        error, p_value = percent(mark["ber"]), number(mark["p_value"])
        facts.append(("watermark", f"{mark['bits']} bits, error rate {error}, p = {p_value}"))
    if report.integrity:
        text = "signature verifies" if report.integrity["verified"] else "SIGNATURE FAILS"
        tamper = report.integrity.get("tamper")
        if tamper:
            text += (
                f"; a flipped byte was refused ({tamper['file']})"
                if tamper["detected"]
                else f"; A FLIPPED BYTE WENT UNNOTICED ({tamper['file']})"
            )
        facts.append(("integrity", text))
    if report.serving and "max_difference" in report.serving:
        facts.append(
            ("serving", f"predictions differ by at most {number(report.serving['max_difference'])}")
        )
    severities = [finding.severity for finding in report.findings]
    if severities:
        counts = [(name, severities.count(name)) for name in reversed(SEVERITIES)]
        facts.append(("findings", ", ".join(f"{count} {name}" for name, count in counts if count)))
    return facts


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return lines


def _cut(text: str, width: int) -> str:
    # A control character in a name could rewrite the terminal.
    text = "".join(letter if letter.isprintable() else "?" for letter in str(text))
    return text if len(text) <= width else text[: width - 1] + "\N{HORIZONTAL ELLIPSIS}"
