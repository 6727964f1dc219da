"""What a repair found and did, in words, findings and JSON."""

from dataclasses import asdict, dataclass
from typing import Any

from keras_secure.errors import IntegrityError
from keras_secure.findings import Finding
from keras_secure.integrity.damage import DamagedFile
from keras_secure.integrity.report import VerificationReport
from keras_secure.integrity.tensor_places import LostTensors


@dataclass(frozen=True)
class RepairReport:
    """What `repair` found and did.

    Args:
        path: The folder or file.
        damaged: The files that were not what was signed, with the ranges of their damaged shards.
        repaired: Names of everything that was put right: files, folders, links, permission bits.
        num_rebuilt: How many data shards came from parity.
        lost: What cannot be rebuilt, by the names of the tensors; then nothing was changed.
        problem: Why it cannot be repaired, or not fully; empty when it can.
        verification: What `verify` says of the result; None where nothing was to be done but to
            look.
    """

    path: str
    damaged: tuple[DamagedFile, ...]
    repaired: tuple[str, ...] = ()
    num_rebuilt: int = 0
    lost: tuple[LostTensors, ...] = ()
    problem: str = ""
    verification: VerificationReport | None = None

    @property
    def ok(self) -> bool:
        """Whether everything is now, to the byte, what was signed."""
        return self.verification is not None and self.verification.ok

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The report as findings, one for each damaged file and one for what else is wrong."""
        lost = {item.file: item for item in self.lost}
        findings = []
        for file in self.damaged:
            evidence: dict[str, Any] = {"path": file.name, "kind": file.kind}
            evidence["ranges"] = [list(bounds) for bounds in file.ranges]
            if file.name in lost:
                evidence["tensors"] = list(lost[file.name].tensors)
                statement = f"{file.describe()}; {lost[file.name].describe()}."
                remedy = "Get the file again from its publisher, or roll back to an older version."
                findings.append(Finding("integrity.lost", "critical", statement, evidence, remedy))
            elif file.name in self.repaired:
                statement = f"{file.describe()}, and was rebuilt."
                findings.append(Finding("integrity.repaired", "low", statement, evidence))
            else:
                statement, remedy = f"{file.describe()}.", "Run `keras-secure repair`."
                findings.append(Finding("integrity.damaged", "high", statement, evidence, remedy))
        return tuple(findings)

    def describe(self) -> list[str]:
        """One line for each thing that was found, done or left."""
        lines = [finding.statement for finding in self.findings]
        files = {file.name for file in self.damaged}
        lines += [f"{name!r} was put right." for name in self.repaired if name not in files]
        lines += [f"{self.problem}."] if self.problem else []
        if self.verification is not None:
            lines += [f"{line}." for line in self.verification.describe()]
        return lines

    def raise_if_failed(self) -> None:
        """Does nothing if everything is now what was signed.

        Raises:
            IntegrityError: It is not; the message names what is lost.
        """
        if not self.ok:
            raise IntegrityError(
                f"{self.path} is not what was signed: {' '.join(self.describe())} Get it again "
                "from its publisher, or roll back to a version that verifies."
            )

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a JSON-serializable dictionary."""
        return {
            "path": self.path,
            "ok": self.ok,
            "damaged": [asdict(file) for file in self.damaged],
            "repaired": list(self.repaired),
            "num_rebuilt": self.num_rebuilt,
            "lost": [asdict(item) for item in self.lost],
            "problem": self.problem,
            "verification": self.verification and self.verification.to_dict(),
        }
