"""What a search for backdoors in a model found."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_secure.errors import InputError
from keras_secure.findings import Finding


@dataclass(frozen=True)
class BackdoorReport:
    """The smallest trigger found for every class, by `NeuralCleanse`.

    Attributes:
        patterns: Array of shape (num_classes, *input): what each trigger writes.
        masks: Array of shape (num_classes, *input): where, and how opaque, in [0, 1].
        success_rates: Share of inputs that each trigger turns to its class, shape (num_classes,).
        l1_norms: Sum of each mask over the positions (channels share one mask), shape
            (num_classes,); the number of positions where no trigger was found.
        anomaly_indexes: How many robust deviations below the median each log norm lies, shape
            (num_classes,): the published figure.
        p_values: Probability that any class of a clean model lies as far below the others, shape
            (num_classes,): what flags a class.
        false_positive_rate: Probability with which any class of a clean model may be flagged.

    Example:

    >>> report = BackdoorReport(
    ...     patterns=np.ones((2, 3)), masks=np.eye(2, 3), success_rates=np.ones(2),
    ...     l1_norms=np.array([9.0, 1.0]), anomaly_indexes=np.array([0.0, 8.0]),
    ...     p_values=np.array([1.0, 0.01]), false_positive_rate=0.05)
    >>> report.flagged_classes
    (1,)
    >>> report.stamp(np.zeros((1, 3))).tolist()
    [[0.0, 1.0, 0.0]]
    """

    patterns: np.ndarray = field(repr=False)
    masks: np.ndarray = field(repr=False)
    success_rates: np.ndarray
    l1_norms: np.ndarray
    anomaly_indexes: np.ndarray
    p_values: np.ndarray
    false_positive_rate: float

    @property
    def flagged_classes(self) -> tuple[int, ...]:
        """The classes that a backdoor seems to lead to, the smallest trigger first."""
        order = np.argsort(self.l1_norms)
        return tuple(int(c) for c in order if self.p_values[c] <= self.false_positive_rate)

    @property
    def most_suspicious_class(self) -> int:
        """The class with the smallest trigger, flagged or not."""
        return int(np.argmin(self.l1_norms))

    def stamp(self, x, label=None):
        """Puts the trigger found for a class on inputs.

        Args:
            x: Array of shape (num_examples, *input).
            label: The class; None for the most suspicious one.

        Returns:
            An array like `x`.

        Raises:
            InputError: If `x` has another shape, or there is no such class.
        """
        label = self.most_suspicious_class if label is None else label
        x = np.asarray(x)
        if x.shape[1:] != self.patterns.shape[1:] or not 0 <= label < len(self.patterns):
            raise InputError(
                f"A trigger for class {label} cannot be put on inputs of shape {x.shape}: there "
                f"are {len(self.patterns)} classes, and inputs of shape "
                f"{self.patterns.shape[1:]} were searched."
            )
        mask = self.masks[label]
        return ((1 - mask) * x + mask * self.patterns[label]).astype(x.dtype)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything but triggers, ready for JSON."""
        return {
            "flagged_classes": list(self.flagged_classes),
            "false_positive_rate": self.false_positive_rate,
            "success_rates": self.success_rates.tolist(),
            "l1_norms": self.l1_norms.tolist(),
            "anomaly_indexes": self.anomaly_indexes.tolist(),
            "p_values": self.p_values.tolist(),
        }

    def finding(self) -> Finding:
        """The report as one finding for an audit."""
        flagged = self.flagged_classes
        if not flagged:
            return Finding(
                "poisoning.backdoor",
                "ok",
                "No class has a trigger much smaller than those of the others.",
                self.to_dict(),
            )
        return Finding(
            "poisoning.backdoor",
            "critical",
            f"A trigger over {self.l1_norms[flagged[0]]:.1f} positions turns "
            f"{self.success_rates[flagged[0]]:.0%} of all inputs to class {flagged[0]}.",
            self.to_dict(),
            "Unlearn it with repair.unlearn_trigger, or retrain on data that you trust.",
        )
