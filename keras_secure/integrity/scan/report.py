"""What a scan found, in the forms that people and programs read."""

from dataclasses import dataclass, field
from typing import Any

from keras_secure.errors import IntegrityError
from keras_secure.findings import SEVERITIES, Finding, Severity
from keras_secure.integrity.scan.sarif import sarif_log

FAILING: tuple[Severity, ...] = ("medium", "high", "critical")


@dataclass(frozen=True)
class ScanReport:
    """The result of `scan`.

    Args:
        path: What was scanned.
        format: What it is: `"keras"`, `"hdf5"` (a model), `"weights"` (HDF5 without a model),
            `"npz"`, `"npy"`, `"saved_model"`, `"folder"`, or what an unknown file seems to be.
        findings: Everything worth knowing, the worst first.
        files: Count of files and of entries in archives that were looked at.
        bytes: Bytes on disk of the files that were looked at.
        seconds: Wall-clock time.
    """

    path: str
    format: str
    findings: tuple[Finding, ...] = field(default_factory=tuple)
    files: int = 0
    bytes: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether no finding is of medium severity or worse."""
        return not any(finding.severity in FAILING for finding in self.findings)

    @property
    def worst(self) -> Severity:
        """The worst severity of all findings; `"ok"` without any."""
        order = SEVERITIES.index
        return max((finding.severity for finding in self.findings), key=order, default="ok")

    def describe(self) -> list[str]:
        """One line per finding: severity, place, statement and identifier."""
        return [
            f"{finding.severity}: {_where(finding)}: {finding.statement} [{finding.id}]"
            for finding in self.findings
        ]

    def raise_if_failed(self) -> None:
        """Does nothing for a path without findings of medium severity or worse.

        Raises:
            IntegrityError: There are such findings; the message names the first ones.
        """
        if self.ok:
            return
        bad = [finding for finding in self.findings if finding.severity in FAILING]
        first = "; ".join(
            f"{_where(finding)}: {finding.statement.rstrip('.')}" for finding in bad[:3]
        )
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        count = "1 finding" if len(bad) == 1 else f"{len(bad)} findings"
        raise IntegrityError(
            f"{self.path} must not be loaded, {count}: {first}{more}. "
            f"{bad[0].remedy or 'Ask its publisher for another file.'}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a JSON-serializable dictionary."""
        return {
            "path": self.path,
            "format": self.format,
            "ok": self.ok,
            "worst": self.worst,
            "findings": [finding.to_dict() for finding in self.findings],
            "files": self.files,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 4),
        }

    def to_sarif(self) -> dict[str, Any]:
        """Returns the report as a SARIF 2.1.0 log, for code hosts and security dashboards."""
        return sarif_log(self.path, self.findings, self.ok)


def _where(finding: Finding) -> str:
    file, inner = finding.evidence.get("file", ""), finding.evidence.get("place", "")
    return f"{file} > {inner}" if inner else str(file)
