"""A model before and after it was hardened against attacks."""

from dataclasses import dataclass
from typing import Any

from keras_secure.attacks import RobustnessReport
from keras_secure.findings import Finding


@dataclass(frozen=True)
class HardeningReport:
    """What hardening achieved, by `keras_secure.repair.harden`.

    Attributes:
        target_robust_accuracy: The share that was wanted.
        max_clean_drop: How much clean accuracy it was allowed to cost.
        met: Whether the target was met at that cost, and the stronger evaluation does not refute
            it.
        restored: Whether the model has its original weights again.
        epochs: Epochs that were trained.
        history: For every epoch and, as epoch 0, before the first: `epoch`, `clean` and `robust`
            accuracy on the examples that decided.
        before: Evaluation before, by the given and the stronger attacks, on examples that decided
            nothing.
        after: The same of the hardened weights, also where they were not kept.
        findings: What follows.
    """

    target_robust_accuracy: float
    max_clean_drop: float
    met: bool
    restored: bool
    epochs: int
    history: tuple[dict[str, float], ...]
    before: RobustnessReport
    after: RobustnessReport
    findings: tuple[Finding, ...]

    @property
    def by_given_attack(self):
        """Robust accuracy by the given attack alone, before and after."""
        return self.before.attacks[0].accuracy, self.after.attacks[0].accuracy

    def to_dict(self) -> dict[str, Any]:
        """Returns everything but per-example arrays, ready for JSON."""
        return {
            "target_robust_accuracy": self.target_robust_accuracy,
            "max_clean_drop": self.max_clean_drop,
            "met": self.met,
            "restored": self.restored,
            "epochs": self.epochs,
            "history": list(self.history),
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def __str__(self):
        def line(name, before, after):
            return (
                f"{name:24} {before.value:6.1%} ({before.low:.1%} to {before.high:.1%})"
                f"  ->  {after.value:6.1%} ({after.low:.1%} to {after.high:.1%})"
            )

        given = self.by_given_attack
        return "\n".join(
            [
                line("clean accuracy", self.before.clean, self.after.clean),
                line("under the given attack", *given),
                line("under stronger attacks", self.before.worst_case, self.after.worst_case),
                *(f"{each.severity}  {each.statement} {each.remedy}" for each in self.findings),
            ]
        )
