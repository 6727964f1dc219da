"""A model before and after it was compressed."""

from dataclasses import asdict, dataclass
from typing import Any

from keras_secure.findings import Finding
from keras_secure.repair import MeasuredShare


@dataclass(frozen=True)
class CompressedKernel:
    """What one kernel of a compressed model is like.

    Attributes:
        size: How many weights it has.
        zeros: Share of them that is zero.
        bits: Of its integers, if it is quantized; else None.
        values: How many values it has, if these are 256 or fewer; else None.
    """

    size: int
    zeros: float
    bits: int | None
    values: int | None


@dataclass(frozen=True)
class CarriedMark:
    """A watermark before and after.

    Attributes:
        verdict_before: As of a `WatermarkReport`.
        verdict_after: The same of the compressed model.
        errors_before: Raw bits read wrong; None if nothing could be compared.
        errors_after: The same of the compressed model.
    """

    verdict_before: str
    verdict_after: str
    errors_before: int | None
    errors_after: int | None


@dataclass(frozen=True)
class CompressionReport:
    """What compression changed, by `compare_compressed`.

    Attributes:
        clean_before: Accuracy on untouched examples.
        clean_after: The same of the compressed model.
        robust_before: Accuracy under the attacks; None without any.
        robust_after: The same of the compressed model, attacked itself.
        agreement: Share of the examples that both models put into the same class.
        marks: The watermarks before and after.
        kernels: What is in the compressed model, by the path of each kernel's variable.
        max_drop: Loss of accuracy, clean or robust, above which it was too dear.
    """

    clean_before: MeasuredShare
    clean_after: MeasuredShare
    robust_before: MeasuredShare | None
    robust_after: MeasuredShare | None
    agreement: MeasuredShare
    marks: tuple[CarriedMark, ...]
    kernels: dict[str, CompressedKernel]
    max_drop: float

    @property
    def sparsity(self) -> float:
        """Share of zeros in all kernels together."""
        total = sum(kernel.size for kernel in self.kernels.values())
        return sum(kernel.size * kernel.zeros for kernel in self.kernels.values()) / max(total, 1)

    def findings(self) -> tuple[Finding, ...]:
        """What follows for accuracy, robustness, marks and storage."""
        found = [self._drop("clean", "Accuracy", self.clean_before, self.clean_after, "medium")]
        if self.robust_before is not None and self.robust_after is not None:
            found.append(
                self._drop(
                    "robust", "Accuracy under attack", self.robust_before, self.robust_after, "high"
                )
            )
        found += [self._mark(number, mark) for number, mark in enumerate(self.marks)]
        kernels = {path: asdict(kernel) for path, kernel in self.kernels.items()}
        bits = sorted({kernel.bits for kernel in self.kernels.values() if kernel.bits})
        stored = f", with integers of {', '.join(map(str, bits))} bits" if bits else ""
        found.append(
            Finding(
                "compression.storage",
                "info",
                f"{self.sparsity:.1%} of the weights in kernels are zero{stored}.",
                {"sparsity": self.sparsity, "kernels": kernels},
            )
        )
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything, ready for JSON."""
        found = [finding.to_dict() for finding in self.findings()]
        return {**asdict(self), "sparsity": self.sparsity, "findings": found}

    def __str__(self):
        lines = [f"clean accuracy         {self.clean_before}  ->  {self.clean_after}"]
        if self.robust_before is not None:
            lines.append(f"accuracy under attack  {self.robust_before}  ->  {self.robust_after}")
        return "\n".join(
            [
                *lines,
                *(f"{each.severity}  {each.statement} {each.remedy}" for each in self.findings()),
            ]
        )

    def _drop(self, name, what, before, after, severity) -> Finding:
        drop = before.value - after.value
        too_dear = drop > self.max_drop
        return Finding(
            f"compression.{name}",
            severity if too_dear else "ok",
            f"{what} went from {before} to {after}; it may fall by {self.max_drop:.1%}.",
            {"before": asdict(before), "after": asdict(after), "max_drop": self.max_drop},
            "Train on after compression, with the same objective; or compress less."
            if too_dear
            else "",
        )

    def _mark(self, number, mark) -> Finding:
        lost = mark.verdict_before == "proved" and mark.verdict_after != "proved"
        return Finding(
            f"compression.watermark.{number}",
            "high" if lost else "ok",
            f"The watermark was {mark.verdict_before} with {mark.errors_before} wrong bits before, "
            f"and is {mark.verdict_after} with {mark.errors_after} after.",
            asdict(mark),
            "Leave the mark attached while the model trains on after compression." if lost else "",
        )
