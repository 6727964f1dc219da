"""What a measurement concludes, in a form every report can print."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["ok", "info", "low", "medium", "high", "critical"]
SEVERITIES: tuple[Severity, ...] = ("ok", "info", "low", "medium", "high", "critical")


@dataclass(frozen=True)
class Finding:
    """One conclusion drawn from measurements.

    Args:
        id: Stable dotted identifier, for example `"robustness.pgd"`.
        severity: One of `SEVERITIES`; `"ok"` states that a check passed.
        statement: One sentence a reader can act on.
        evidence: The measured values the statement rests on, JSON-serializable.
        remedy: What to do about it; empty when there is nothing to do.

    Example:

    >>> Finding("privacy.budget", "ok", "Epsilon 2.9 of 3.0 was spent.", {"epsilon": 2.9}).severity
    'ok'
    """

    id: str
    severity: Severity
    statement: str
    evidence: dict[str, Any] = field(default_factory=dict)
    remedy: str = ""

    def __post_init__(self):
        if self.severity not in SEVERITIES:
            raise ValueError(
                f"Unknown severity {self.severity!r} of finding {self.id!r}; "
                f"use one of {', '.join(SEVERITIES)}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Returns the finding as a JSON-serializable dictionary."""
        return asdict(self)
