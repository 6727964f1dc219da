"""What one audited training run shows, and how it stands beside a ledger."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from keras_secure.findings import Finding


@dataclass(frozen=True)
class Guesses:
    """The outcome for one number of guesses.

    Args:
        num_guesses: How many canaries were guessed: as many "in" as "out".
        num_correct: How many of the guesses were right.
        epsilon_lower: The bound they give, corrected for all numbers that were tried.
    """

    num_guesses: int
    num_correct: int
    epsilon_lower: float


@dataclass(frozen=True)
class OneRunReport:
    """A lower bound on the epsilon of one training run.

    Args:
        epsilon_lower: The run is not (epsilon, delta)-private for any smaller epsilon, at
            `confidence`; 0 where nothing was shown.
        delta: The delta of the guarantee that was tested.
        confidence: One-sided, over everything that was tried.
        num_canaries: How many coins were tossed.
        num_included: How many of them put their canary into the training data.
        num_guesses: Guesses behind `epsilon_lower`.
        num_correct: How many of those were right.
        tried: One `Guesses` per number of guesses that was tried.
    """

    epsilon_lower: float
    delta: float
    confidence: float
    num_canaries: int
    num_included: int
    num_guesses: int
    num_correct: int
    tried: tuple[Guesses, ...]

    def finding(
        self, epsilon: float | None = None, delta: float | None = None, name: str = "audited"
    ) -> Finding:
        """Holds the lower bound against the upper bound of a ledger.

        Args:
            epsilon: What the ledger says was spent; None or infinity if nothing is promised.
            delta: The ledger's delta; None for the audit's own. A bound at a smaller delta than
                the ledger's refutes nothing.
            name: What the model is called.

        Returns:
            A `Finding`: critical if the bounds contradict each other, ok if they agree, info where
            they cannot be compared.
        """
        delta = self.delta if delta is None else delta
        shown = (
            f"{self.num_correct} of {self.num_guesses} guesses about canaries were right, so the "
            f"{name} model's epsilon is at least {self.epsilon_lower:.3g} at delta {self.delta:g}"
        )
        evidence = {
            "epsilon_lower": self.epsilon_lower,
            "delta": self.delta,
            "confidence": self.confidence,
            "num_canaries": self.num_canaries,
            "num_guesses": self.num_guesses,
            "num_correct": self.num_correct,
        }
        if epsilon is None or not math.isfinite(epsilon):
            return Finding(f"one_run.{name}", "info", f"{shown}; no epsilon is promised.", evidence)
        evidence["epsilon"] = epsilon
        if self.epsilon_lower <= epsilon:
            return Finding(
                f"one_run.{name}",
                "ok",
                f"{shown}, which agrees with the {epsilon:.3g} of the ledger. It does not prove "
                f"the ledger right: a stronger audit may show more.",
                evidence,
            )
        if self.delta < delta:
            return Finding(
                f"one_run.{name}",
                "info",
                f"{shown}; the ledger's {epsilon:.3g} is at delta {delta:g}, so the two cannot be "
                f"compared.",
                evidence,
                "Audit at the ledger's delta.",
            )
        return Finding(
            f"one_run.{name}",
            "critical",
            f"{shown}, but the ledger says at most {epsilon:.3g}: at confidence "
            f"{self.confidence:g}, the model is not as private as stated.",
            evidence,
            "Do not release the model. Check that each canary was in the data at most once and "
            "that nothing else saw the coins; then look for the defect in clipping, noise or "
            "sampling.",
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a JSON-serializable dictionary."""
        return asdict(self)
