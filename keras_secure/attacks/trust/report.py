"""What the trust check concluded."""

from dataclasses import dataclass
from typing import Any

from keras_secure.findings import Finding


@dataclass(frozen=True)
class TrustReport:
    """Whether a robustness figure can be believed, by `keras_secure.attacks.trust_check`.

    Attributes:
        findings: One `Finding` for each probe; `"ok"` where nothing speaks against the figure,
            `"low"` for a remark that does not void it, `"high"` where it cannot be believed.
        attack: What rebuilds the attack whose figure was checked, under its class name.
        epsilon: Radius at which it was checked.
        num_examples: Examples that took part; all were answered rightly untouched.
    """

    findings: tuple[Finding, ...]
    attack: dict[str, Any]
    epsilon: float
    num_examples: int

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings that void the figure."""
        return tuple(each for each in self.findings if each.severity not in ("ok", "info", "low"))

    @property
    def trusted(self) -> bool:
        """Whether no probe failed."""
        return not self.failed

    def to_dict(self) -> dict[str, Any]:
        """Returns everything, ready for JSON."""
        return {
            "trusted": self.trusted,
            "attack": self.attack,
            "epsilon": self.epsilon,
            "num_examples": self.num_examples,
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def __str__(self):
        head = "can be believed" if self.trusted else "cannot be believed"
        lines = [f"The figure {head} ({len(self.failed)} of {len(self.findings)} probes failed)."]
        for finding in self.findings:
            if finding.severity == "ok":
                continue
            lines.append(f"{finding.severity}  {finding.id}: {finding.statement} {finding.remedy}")
        return "\n".join(lines)
