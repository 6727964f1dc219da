"""What a look at an audit log found."""

from dataclasses import dataclass
from typing import Any

from keras_secure.findings import SEVERITIES, Finding

_FAILING = SEVERITIES[SEVERITIES.index("medium") :]


@dataclass(frozen=True)
class AuditLogReport:
    """What `verify_audit_log` found.

    Args:
        findings: All that is to be said; what is at least of medium severity is a failure.
        lines: Whole lines that were read.
        signed: How many of them a trusted checkpoint covers.
        head: Number and hash of the last line, as `SEQ:HASH`; empty for an empty log. Kept
            elsewhere, it proves later that nothing up to it was cut off.
        torn_bytes: Bytes of a last line that was never completed.
    """

    findings: tuple[Finding, ...]
    lines: int
    signed: int
    head: str
    torn_bytes: int

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings for which the log is refused."""
        return tuple(finding for finding in self.findings if finding.severity in _FAILING)

    @property
    def ok(self) -> bool:
        """Whether every whole line is what was written, and none is missing up to the last."""
        return not self.failures

    def describe(self) -> list[str]:
        """One sentence for each finding."""
        return [finding.statement for finding in self.findings]

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a JSON-serializable dictionary."""
        return {
            "ok": self.ok,
            "lines": self.lines,
            "signed": self.signed,
            "head": self.head,
            "torn_bytes": self.torn_bytes,
            "findings": [finding.to_dict() for finding in self.findings],
        }
