"""An audit as one self-contained page: no script, no outside resource, fit to mail and print."""

import html
import math
import re

from keras_secure.audit import plots
from keras_secure.audit.chapters import Chapter, Table, chapters, model_names
from keras_secure.audit.judge.robustness import reference_epsilon
from keras_secure.audit.page_style import STYLE
from keras_secure.audit.render_pictures import picture_table
from keras_secure.audit.wording import moment, number
from keras_secure.findings import SEVERITIES

# Even if a name slipped through unescaped, the browser would run and fetch nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render_html(report) -> str:
    """The audit as a web page with tables, charts and pictures.

    Args:
        report: An `AuditReport`.

    Returns:
        The page.
    """
    parts = chapters(report)
    body = [_chapter(report, part) for part in parts]
    # The models side by side are the headline; what to make of them comes right after.
    body.insert(1 if parts[0].key == "models" else 0, _findings(report))
    body.insert(0, _header(report) + _contents(parts, bool(report.findings)))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{_text(report.title)}</title>
<style>
{STYLE}
</style>
</head>
<body>
<main>
{"".join(body)}<footer>Made by keras_secure on {_text(moment(report.created))}. The evidence behind
every finding is in report.json.</footer>
</main>
</body>
</html>
"""


def _text(value) -> str:
    return html.escape(str(value), quote=True)


def _header(report) -> str:
    about = [report.data["name"]] if report.data else []
    about += [moment(report.created)]
    line = " \N{MIDDLE DOT} ".join(_text(part) for part in about)
    return f'<header>\n<h1>{_text(report.title)}</h1>\n<p class="about">{line}</p>\n</header>\n'


def _findings(report) -> str:
    findings = report.findings
    if not findings:
        return ""
    counts = {
        severity: sum(finding.severity == severity for finding in findings)
        for severity in reversed(SEVERITIES)
    }
    chips = "".join(
        f'<li class="chip {severity}"><b>{count}</b> {severity}</li>'
        for severity, count in counts.items()
        if count
    )
    items = []
    for finding in findings:
        remedy = f'<p class="remedy">{_text(finding.remedy)}</p>' if finding.remedy else ""
        items.append(
            f'<li class="finding {finding.severity}"><span class="severity">{finding.severity}'
            f'</span><div><p class="statement">{_text(finding.statement)}</p>{remedy}</div>'
            f"<code>{_text(finding.id)}</code></li>\n"
        )
    return (
        f'<section id="findings">\n<h2>Findings</h2>\n<ul class="chips">{chips}</ul>\n'
        f'<ul class="findings">\n{"".join(items)}</ul>\n</section>\n'
    )


def _contents(parts: list[Chapter], findings: bool) -> str:
    entries = [(part.key, part.title) for part in parts]
    if findings:
        entries.insert(1 if parts[0].key == "models" else 0, ("findings", "Findings"))
    links = "".join(f'<a href="#{key}">{_text(title)}</a>' for key, title in entries)
    return f'<nav aria-label="Contents">{links}</nav>\n'


def _chapter(report, part: Chapter) -> str:
    picture = _ILLUSTRATIONS.get(part.key, lambda report: "")(report)
    # The pictures carry the table's words below each image, so the table would repeat them.
    tables = "" if part.key == "examples" and picture else "".join(map(_table, part.tables))
    notes = "".join(f"<li>{_text(note)}</li>" for note in part.notes)
    return (
        f'<section id="{part.key}">\n<h2>{_text(part.title)}</h2>\n'
        f'<p class="lead">{_text(part.lead)}</p>\n{picture}{tables}'
        + (f'<ul class="notes">{notes}</ul>\n' if notes else "")
        + "</section>\n"
    )


def _table(table: Table) -> str:
    facts = " facts" if table.columns == ["Measure", "Value"] else ""
    head = "".join(f'<th scope="col">{_text(column)}</th>' for column in table.columns)
    head = "" if facts else f"<thead><tr>{head}</tr></thead>\n"
    rows = "".join(
        f'<tr><th scope="row">{_text(row[0])}</th>'
        + "".join(f"<td>{_unbroken(cell)}</td>" for cell in row[1:])
        + "</tr>\n"
        for row in table.rows
    )
    return (
        f'<div class="scroll"><table class="table{facts}">{head}<tbody>\n{rows}</tbody></table>'
        f"</div>\n"
    )


def _unbroken(cell: str) -> str:
    """A figure and its interval: on narrow paper the line breaks between them, not inside."""
    return re.sub(r"\([^()]* to [^()]*\)", r'<span class="interval">\g<0></span>', _text(cell))


def _figure(drawing: str, legend: str = "", caption: str = "") -> str:
    words = f"<figcaption>{_text(caption)}</figcaption>\n" if caption else ""
    return f'<figure class="chart">\n{legend}{drawing}\n{words}</figure>\n'


def _legend(names, shown) -> str:
    keys = "".join(
        f'<li><i style="background:{plots.style(names, name)[0]}"></i>{_text(name)}</li>'
        for name in shown
    )
    return f'<ul class="legend">{keys}</ul>\n'


def _robustness(report) -> str:
    curves, names = report.robustness["curves"], model_names(report)
    if not any(curves.values()):
        return ""
    epsilon = reference_epsilon(curves, report.baseline)
    return _figure(
        plots.robustness_svg(curves, names, epsilon),
        _legend(names, curves),
        "Bands are 95% confidence intervals."
        + (
            f" The dotted line, \N{GREEK SMALL LETTER EPSILON} = {number(epsilon)}, is where the "
            f"findings compare the models."
            if epsilon is not None
            else ""
        ),
    )


def _privacy(report) -> str:
    # Without noise epsilon is infinite, and there is no curve to draw.
    burn_down = [
        spent for spent in report.privacy.get("burn_down", []) if math.isfinite(spent["epsilon"])
    ]
    if not burn_down:
        return ""
    names, name = model_names(report), report.privacy.get("model")
    colour = plots.style(names, name)[0] if name in names else plots.PALETTE[0]
    drawing = plots.burn_down_svg(burn_down, report.privacy.get("target_epsilon"), colour)
    return _figure(
        drawing, caption="Privacy burn-down: what had been spent, noted after every epoch."
    )


def _membership(report) -> str:
    measurements = [*report.membership.items(), *report.lira.items()]
    drawing = plots.membership_svg(measurements, model_names(report))
    return _figure(drawing, caption="The bar is the confidence interval of the AUC.")


_ILLUSTRATIONS = {
    "robustness": _robustness,
    "examples": lambda report: picture_table(report.adversarial_examples),
    "privacy": _privacy,
    "membership": _membership,
}
