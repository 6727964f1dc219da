"""Writing an audit to disk so that a reader never meets half a file."""

from pathlib import Path

from keras_secure.audit.render_html import render_html
from keras_secure.audit.render_json import render_json
from keras_secure.audit.render_markdown import render_markdown
from keras_secure.integrity.atomic import write_atomically


def write_report(report, folder) -> list[Path]:
    """Writes `report.html`, `report.md` and `report.json`.

    All three are rendered before the first is written, and each appears under its name only when it
    is complete.

    Args:
        report: An `AuditReport`.
        folder: Where to write; made if it is missing.

    Returns:
        The three paths.

    Example:

    >>> import tempfile
    >>> from keras_secure.audit import AuditReport
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = write_report(AuditReport(models={"plain": {"accuracy": 0.987}}), folder)
    ...     [path.name for path in paths]
    ['report.html', 'report.md', 'report.json']
    """
    texts = {
        "report.html": render_html(report),
        "report.md": render_markdown(report),
        "report.json": render_json(report),
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in texts]
    for path in paths:
        write_atomically(path, texts[path.name].encode())
    return paths
