"""What was measured when a model was attacked."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_secure.attacks.certified import CertifiedAccuracy
from keras_secure.attacks.estimates import Accuracy, Distances, MeanLoss
from keras_secure.attacks.trust.report import TrustReport

NOTES = (
    "Robust accuracy is an upper bound: a stronger attack may fool the model on more examples.",
    "An example answered wrongly untouched counts as not robust.",
    "An example fooled at one epsilon counts as fooled at every larger one and is not attacked "
    "again.",
)
"""What holds for every report; others are added where they apply."""

UNCHECKED = (
    "Whether the figure can be believed was not checked: evaluate with trust_check=True, or call "
    "keras_secure.attacks.trust_check."
)


@dataclass(frozen=True)
class AttackMeasurement:
    """What one attack did to a model.

    Attributes:
        name: Name of the attack, unique in the report.
        config: What rebuilds the attack.
        norm: `"linf"`, `"l2"` or `"l1"`, or the attack's own word where it is bounded otherwise
            (`"spatial"`).
        epsilon: The radius that `accuracy` and `x_adv` are for: the attack's own, or, where it has
            none, that of the attacks beside it or the largest of the curve; infinite if there is
            neither.
        accuracy: Robust accuracy at that epsilon.
        mean_distance: Average distance, at that epsilon, of the inputs that fool the model where
            it was right before; None if there are none.
        curve: (epsilon, robust accuracy), ascending, at the epsilons that were asked for.
        distances: Distances of the nearest inputs found that fool the model.
        loss: Cross-entropy at `x_adv`, averaged over the examples.
        fooled_at: Array of shape (num_examples,): the smallest radius known at which the example
            is fooled (the smallest epsilon tried, or the distance found by an attack that looks
            for it), 0 where it was wrong untouched, infinity where it never was.
        x_adv: The perturbed inputs within that epsilon, as in `AttackResult`.
    """

    name: str
    config: dict[str, Any]
    norm: str
    epsilon: float
    accuracy: Accuracy
    mean_distance: float | None
    curve: tuple[tuple[float, Accuracy], ...]
    distances: Distances
    loss: MeanLoss
    fooled_at: np.ndarray = field(repr=False)
    x_adv: np.ndarray = field(repr=False)

    @property
    def robust(self) -> np.ndarray:
        """Which examples withstood the attack within `epsilon`."""
        if np.isinf(self.epsilon):
            return np.isinf(self.fooled_at)
        return self.fooled_at > self.epsilon

    def to_dict(self) -> dict[str, Any]:
        """Returns everything but the arrays, ready for JSON."""
        return {
            "name": self.name,
            "config": self.config,
            "norm": self.norm,
            "epsilon": None if np.isinf(self.epsilon) else self.epsilon,
            **self.accuracy.to_dict(),
            "mean_distance": self.mean_distance,
            "curve": curve_to_list(self.curve),
            "distances": self.distances.to_dict(),
            "loss": self.loss.to_dict(),
        }


@dataclass(frozen=True)
class RobustnessReport:
    """Clean and robust accuracy of a model, by `keras_secure.attacks.evaluate`.

    Attributes:
        num_examples: How many examples were attacked.
        confidence: Coverage of every interval in the report.
        clean: Accuracy on the untouched inputs.
        attacks: One `AttackMeasurement` per attack, in the order given.
        threat_model: What the attacker was allowed, in words.
        worst_case: Accuracy against the best attack for each example, each within its own epsilon.
        worst_case_curve: (epsilon, accuracy against the best attack), ascending.
        clean_loss: Cross-entropy on the untouched inputs.
        adversarial_loss: For each example the highest cross-entropy that any attack reached,
            averaged.
        distances: Norm to the `Distances` of the nearest fooling inputs that any attack of that
            norm found.
        certified: `CertifiedAccuracy` if a certifier was given.
        abstained: Share of untouched inputs on which a model that may abstain does so; else None.
        trust: `TrustReport` if it was asked for.
        notes: What a reader of the figures must know.
        clean_correct: Boolean array of shape (num_examples,).
        worst_case_correct: Boolean array of shape (num_examples,).
    """

    num_examples: int
    confidence: float
    clean: Accuracy
    attacks: tuple[AttackMeasurement, ...]
    threat_model: str
    worst_case: Accuracy
    worst_case_curve: tuple[tuple[float, Accuracy], ...]
    clean_loss: MeanLoss
    adversarial_loss: MeanLoss
    distances: dict[str, Distances]
    certified: CertifiedAccuracy | None
    abstained: Accuracy | None
    trust: TrustReport | None
    notes: tuple[str, ...]
    clean_correct: np.ndarray = field(repr=False)
    worst_case_correct: np.ndarray = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything but the per-example arrays, ready for JSON."""
        return {
            "num_examples": self.num_examples,
            "confidence": self.confidence,
            "clean": self.clean.to_dict(),
            "attacks": [attack.to_dict() for attack in self.attacks],
            "threat_model": self.threat_model,
            "worst_case": self.worst_case.to_dict(),
            "worst_case_curve": curve_to_list(self.worst_case_curve),
            "clean_loss": self.clean_loss.to_dict(),
            "adversarial_loss": self.adversarial_loss.to_dict(),
            "distances": {norm: each.to_dict() for norm, each in self.distances.items()},
            "certified": None if self.certified is None else self.certified.to_dict(),
            "abstained": None if self.abstained is None else self.abstained.to_dict(),
            "trust": None if self.trust is None else self.trust.to_dict(),
            "notes": list(self.notes),
        }


def curve_to_list(curve):
    """Returns (epsilon, accuracy) pairs as dictionaries."""
    return [{"epsilon": epsilon, **accuracy.to_dict()} for epsilon, accuracy in curve]
