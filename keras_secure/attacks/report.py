"""What was measured when a model was attacked."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_secure.intervals import proportion_interval

NOTES = (
    "Robust accuracy is an upper bound: a stronger attack may fool the model on more examples.",
    "An example answered wrongly untouched counts as not robust.",
    "An example fooled at one epsilon counts as fooled at every larger one and is not attacked "
    "again.",
)


@dataclass(frozen=True)
class Accuracy:
    """A share of the examples, with its confidence interval.

    Attributes:
        value: The share that was measured.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, correct: np.ndarray, confidence: float) -> "Accuracy":
        """Measures a boolean array of shape (num_examples,)."""
        low, high = proportion_interval(int(correct.sum()), len(correct), confidence)
        return cls(float(correct.mean()), low, high)

    def to_dict(self) -> dict[str, float]:
        """Returns the three numbers under `accuracy`, `low` and `high`."""
        return {"accuracy": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class AttackMeasurement:
    """What one attack did to a model.

    Attributes:
        name: Name of the attack, unique in the report.
        config: What rebuilds the attack.
        norm: `"linf"`, `"l2"` or `"l1"`.
        epsilon: The attack's own epsilon.
        accuracy: Robust accuracy at that epsilon.
        mean_distance: Average distance, at that epsilon, of the inputs that fool the model where
            it was right before; None if there are none.
        curve: (epsilon, robust accuracy), ascending, at the epsilons that were asked for.
        fooled_at: Array of shape (num_examples,): the smallest epsilon tried at which the example
            was fooled, 0 where it was wrong untouched, infinity where it never was.
        x_adv: The perturbed inputs at the attack's own epsilon, as in `AttackResult`.
    """

    name: str
    config: dict[str, Any]
    norm: str
    epsilon: float
    accuracy: Accuracy
    mean_distance: float | None
    curve: tuple[tuple[float, Accuracy], ...]
    fooled_at: np.ndarray = field(repr=False)
    x_adv: np.ndarray = field(repr=False)

    @property
    def robust(self) -> np.ndarray:
        """Which examples withstood the attack at its own epsilon."""
        return self.fooled_at > self.epsilon

    def to_dict(self) -> dict[str, Any]:
        """Returns everything but the arrays, ready for JSON."""
        return {
            "name": self.name,
            "config": self.config,
            "norm": self.norm,
            "epsilon": self.epsilon,
            **self.accuracy.to_dict(),
            "mean_distance": self.mean_distance,
            "curve": _curve_to_list(self.curve),
        }


@dataclass(frozen=True)
class RobustnessReport:
    """Clean and robust accuracy of a model, by `keras_secure.attacks.evaluate`.

    Attributes:
        num_examples: How many examples were attacked.
        confidence: Coverage of every interval in the report.
        clean: Accuracy on the untouched inputs.
        attacks: One `AttackMeasurement` per attack, in the order given.
        worst_case: Accuracy against the best attack for each example, each at its own epsilon.
        worst_case_curve: (epsilon, accuracy against the best attack), ascending.
        clean_correct: Boolean array of shape (num_examples,).
        worst_case_correct: Boolean array of shape (num_examples,).
    """

    num_examples: int
    confidence: float
    clean: Accuracy
    attacks: tuple[AttackMeasurement, ...]
    worst_case: Accuracy
    worst_case_curve: tuple[tuple[float, Accuracy], ...]
    clean_correct: np.ndarray = field(repr=False)
    worst_case_correct: np.ndarray = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything but the per-example arrays, ready for JSON."""
        return {
            "num_examples": self.num_examples,
            "confidence": self.confidence,
            "clean": self.clean.to_dict(),
            "attacks": [attack.to_dict() for attack in self.attacks],
            "worst_case": self.worst_case.to_dict(),
            "worst_case_curve": _curve_to_list(self.worst_case_curve),
            "notes": list(NOTES),
        }


def _curve_to_list(curve):
    return [{"epsilon": epsilon, **accuracy.to_dict()} for epsilon, accuracy in curve]
