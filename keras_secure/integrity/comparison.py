"""A statement beside what lies there, and the differences found so far."""

from dataclasses import dataclass, field
from typing import Any

from keras_secure.findings import Finding
from keras_secure.integrity.paths import printable
from keras_secure.integrity.statement import Statement
from keras_secure.integrity.tree import Tree

_REMEDY = (
    "Do not use it: get it again from its publisher, or rebuild it with `keras-secure repair` if "
    "it was signed with parity."
)
# No byte of a file differs; still, a folder may decide which plugin is found.
_WITHOUT_BYTES = ("mode", "folder_added", "folder_missing")


@dataclass
class Comparison:
    """What was signed, what is there, and how they differ.

    Args:
        statement: A statement that is believed.
        tree: What lies there.
        findings: The differences.
    """

    statement: Statement
    tree: Tree
    findings: list[Finding] = field(default_factory=list)

    def add(
        self, name: str, path: str, statement: str, remedy: str = _REMEDY, **evidence: Any
    ) -> None:
        """Enters a difference.

        Args:
            name: What kind it is, the last part of the finding's identifier.
            path: The path concerned.
            statement: What is said of the path.
            remedy: What to do.
            **evidence: What else is known.
        """
        severity = "high" if name in _WITHOUT_BYTES else "critical"
        self.findings.append(
            Finding(
                f"integrity.{name}",
                severity,  # type: ignore[arg-type]
                f"{path!r} {statement}",
                {"path": printable(path), **evidence},
                remedy,
            )
        )
