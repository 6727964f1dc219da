"""What an attack on whole arrays found."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Candidates:
    """What `Attack.seek` found, before it is projected and judged.

    Attributes:
        x_adv: Array of shape (num_rows, ...).
        steps: Integer array of shape (num_rows,): the steps that led to the candidate.
        evaluations: Integer array: how often the model was asked about each example.
        longest: Most steps that one example could have taken.
        size: Floating array of shape (num_rows,), for an attack that no norm bounds: how large
            each perturbation is by the attack's own measure. None where the norm is measured.
    """

    x_adv: np.ndarray
    steps: np.ndarray
    evaluations: np.ndarray
    longest: int
    size: np.ndarray | None = None


@dataclass(frozen=True)
class AttackResult:
    """What `Attack.run` found, example by example.

    Attributes:
        x_adv: Array of the shape and dtype of the inputs: an input that fools the model where
            `success`, elsewhere the one with the highest loss that was met.
        success: Boolean array of shape (num_examples,): whether the model answers `x_adv` wrongly
            (or, if targeted, with the target). True for inputs that were wrong untouched.
        distance: Float64 array: the norm of `x_adv - x`; 0 for inputs that were wrong untouched. Of
            an attack that no norm bounds (`Spatial`), the size by its own measure.
        first_success_step: Integer array: gradient steps taken, over all restarts, before the
            input that fools was met; 0 for the input itself or a random start, -1 without success.
        queries: Integer array: evaluations of the model spent on each example until it was fooled.

    Example:

    >>> result = AttackResult(
    ...     x_adv=np.zeros((2, 3)),
    ...     success=np.array([True, False]),
    ...     distance=np.zeros(2),
    ...     first_success_step=np.array([0, -1]),
    ...     queries=np.array([1, 7]),
    ... )
    >>> result.success_rate
    0.5
    """

    x_adv: np.ndarray
    success: np.ndarray
    distance: np.ndarray
    first_success_step: np.ndarray
    queries: np.ndarray

    @property
    def success_rate(self) -> float:
        """Share of the examples that fool the model."""
        return float(np.mean(self.success))
