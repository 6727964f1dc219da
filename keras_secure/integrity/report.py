"""What verification found: who signed, and what is not as it was signed."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from keras_secure.errors import IntegrityError
from keras_secure.findings import SEVERITIES, Finding

_FAILING = SEVERITIES[SEVERITIES.index("medium") :]
_SHOWN = 20


@dataclass(frozen=True)
class Signer:
    """A trusted key whose signature holds.

    Args:
        fingerprint: Of the key.
        name: What the trust calls it; may be empty.
        kind: The kind of key.
        endorsed_by: Who vouches for it, where it was not trusted by itself.
    """

    fingerprint: str
    name: str
    kind: str
    endorsed_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class VerificationReport:
    """What `verify` found.

    Args:
        path: The folder or file that was checked.
        findings: All that is to be said; what is at least of medium severity is a refusal.
        signers: The trusted keys whose signatures hold.
        format: Who wrote the signature: `"keras_secure"` or `"model_signing"`; empty where it could
            not be believed. A signature of model-signing covers no permission bits, no empty files
            (in shards) and folders, and nothing that git keeps beside the files.
        created: When it was signed, by the signer's clock, as ISO 8601; may be empty.
        serial: Serial number of the signature.
        num_files: How many files it covers.
    """

    path: str
    findings: tuple[Finding, ...]
    signers: tuple[Signer, ...] = ()
    format: str = ""
    created: str = ""
    serial: int = 0
    num_files: int = 0

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings for which it is refused."""
        return tuple(finding for finding in self.findings if finding.severity in _FAILING)

    @property
    def ok(self) -> bool:
        """Whether everything is what trusted keys signed, and nothing was added."""
        return bool(self.signers) and not self.failures

    @property
    def causes(self) -> tuple[str, ...]:
        """The distinct identifiers of what it is refused for, sorted."""
        return tuple(sorted({finding.id for finding in self.failures}))

    @property
    def key_fingerprint(self) -> str:
        """Fingerprint of the first signer; empty when there is none."""
        return self.signers[0].fingerprint if self.signers else ""

    @property
    def changed(self) -> tuple[str, ...]:
        """Paths of files that are there and hold something else than was signed."""
        kinds = ("changed", "truncated", "extended", "swapped", "special", "symlink")
        return self._paths(f"integrity.{kind}" for kind in kinds)

    @property
    def missing(self) -> tuple[str, ...]:
        """Paths that were signed and are gone, under their names at least."""
        return self._paths(["integrity.missing", "integrity.renamed", "integrity.folder_missing"])

    @property
    def added(self) -> tuple[str, ...]:
        """Paths that nobody signed."""
        added = self._paths(["integrity.added", "integrity.folder_added"])
        renamed = (f.evidence["new_path"] for f in self.findings if f.id == "integrity.renamed")
        return tuple(sorted({*added, *renamed}))

    def describe(self) -> list[str]:
        """One line per thing that is wrong; empty when all is as it was signed."""
        return [finding.statement for finding in self.failures]

    def raise_if_failed(self) -> None:
        """Does nothing if all is as it was signed.

        Raises:
            IntegrityError: It is not; the message names every cause.
        """
        if self.ok:
            return
        lines = self.describe()
        more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        raise IntegrityError(
            f"{self.path} is refused: {'; '.join(lines[:_SHOWN])}{more}. Do not use it; get it "
            "again from its publisher."
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a JSON-serializable dictionary."""
        return {
            "path": self.path,
            "ok": self.ok,
            "format": self.format,
            "created": self.created,
            "serial": self.serial,
            "num_files": self.num_files,
            "signers": [
                {
                    "fingerprint": signer.fingerprint,
                    "name": signer.name,
                    "kind": signer.kind,
                    "endorsed_by": list(signer.endorsed_by),
                }
                for signer in self.signers
            ],
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def _paths(self, ids: Iterable[str]) -> tuple[str, ...]:
        wanted = set(ids)
        return tuple(sorted({f.evidence["path"] for f in self.findings if f.id in wanted}))
