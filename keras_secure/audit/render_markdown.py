"""An audit as Markdown, for reviews and release notes."""

import html
import re

from keras_secure.audit.chapters import Table, chapters
from keras_secure.audit.wording import moment


def render_markdown(report) -> str:
    """The audit as Markdown with tables, complete but for the pictures.

    Args:
        report: An `AuditReport`.

    Returns:
        The text, ending in a newline.
    """
    lines = [f"# {_plain(report.title)}", "", f"Created {_plain(moment(report.created))}.", ""]
    if report.findings:
        rows = [[f.severity, f.statement, f.remedy] for f in report.findings]
        lines += [
            "## Findings",
            "",
            *_table(Table(["Severity", "Finding", "What to do"], rows), "-"),
        ]
    for chapter in chapters(report):
        lines += [f"## {chapter.title}", "", _plain(chapter.lead), ""]
        for table in chapter.tables:
            lines += _table(table, "-:")
        lines += [f"- {_plain(note)}" for note in chapter.notes]
        if chapter.notes:
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _table(table: Table, figures: str) -> list[str]:
    rows = [table.columns, [":-", *[figures] * (len(table.columns) - 1)], *table.rows]
    return [
        *(
            "| " + " | ".join(cell if index == 1 else _plain(cell) for cell in row) + " |"
            for index, row in enumerate(rows)
        ),
        "",
    ]


def _plain(text: str) -> str:
    """Text that means itself: names from data files must not become markup or break a table."""
    flat = " ".join(str(text).split())
    return re.sub(r"([\\`*_\[\]|#$])", r"\\\1", html.escape(flat, quote=False))
