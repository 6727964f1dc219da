"""An audit as strict JSON, for programs."""

import json


def render_json(report) -> str:
    """The audit as indented JSON; NaN and infinity are null.

    Args:
        report: An `AuditReport`.

    Returns:
        The text, ending in a newline.
    """
    return json.dumps(report.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
