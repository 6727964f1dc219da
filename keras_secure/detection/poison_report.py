"""What a search for poisoned training examples found."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_secure.findings import Finding


@dataclass(frozen=True)
class InspectedClass:
    """One class of a training set that was searched for poison.

    Attributes:
        label: The class.
        num_examples: How many examples carry the label.
        num_flagged: How many of them were flagged.
        separation: How far its two groups stand apart (the detector's own measure).
        p_value: Probability that the class with the largest separation in a clean training set
            stands out as much; None where each example was judged by itself.
        threshold: Score above which its examples are flagged; infinite where the class is not
            suspicious.

    Example:

    >>> InspectedClass(3, 100, 7, 9.5, 0.001, 2.3).num_flagged
    7
    """

    label: int
    num_examples: int
    num_flagged: int
    separation: float
    p_value: float | None
    threshold: float

    def to_dict(self) -> dict[str, Any]:
        """Returns the values, ready for JSON."""
        threshold = self.threshold if np.isfinite(self.threshold) else None
        return {**vars(self), "threshold": threshold}


@dataclass(frozen=True)
class PoisonReport:
    """Which training examples are thought to be poisoned, by `inspect` of a detector.

    Attributes:
        detector: Name of the detector.
        scores: float64 array of shape (num_examples,); higher is more suspicious.
        flagged: Boolean array of shape (num_examples,).
        classes: One `InspectedClass` for each class, ascending.
        false_positive_rate: Share of the clean examples that was allowed to be flagged.
        promise: On which assumption that share holds.

    Example:

    >>> flagged = np.array([True] * 9 + [False])
    >>> one = InspectedClass(0, 10, 9, 8.0, 0.01, 3.0)
    >>> PoisonReport("by hand", flagged * 9.0, flagged, (one,), 0.01, "").suspicious_classes
    (0,)
    """

    detector: str
    scores: np.ndarray = field(repr=False)
    flagged: np.ndarray = field(repr=False)
    classes: tuple[InspectedClass, ...]
    false_positive_rate: float
    promise: str

    @property
    def suspicious_classes(self) -> tuple[int, ...]:
        """The classes in which examples were flagged by more than chance would."""
        return tuple(
            one.label
            for one in self.classes
            if one.num_flagged > 2 * self.false_positive_rate * one.num_examples + 3
        )

    def finding(self) -> Finding:
        """The report as one finding for an audit."""
        suspicious = self.suspicious_classes
        count = int(self.flagged.sum())
        evidence = {
            "detector": self.detector,
            "num_examples": len(self.flagged),
            "num_flagged": count,
            "false_positive_rate": self.false_positive_rate,
            "promise": self.promise,
            "classes": [one.to_dict() for one in self.classes],
        }
        if not suspicious:
            return Finding(
                "poisoning.training_data",
                "ok",
                f"{self.detector} found no class whose examples fall apart as poisoned ones do.",
                evidence,
            )
        return Finding(
            "poisoning.training_data",
            "high",
            f"{count} of {len(self.flagged)} training examples look poisoned, in "
            f"{'class' if len(suspicious) == 1 else 'classes'} "
            f"{', '.join(map(str, suspicious))}.",
            evidence,
            "Look at the flagged examples; retrain without them with repair.retrain_without.",
        )
