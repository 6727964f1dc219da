"""A model before and after a backdoor was taken out of it."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_secure.findings import Finding
from keras_secure.intervals import proportion_interval
from keras_secure.logits import logits_of


@dataclass(frozen=True)
class MeasuredShare:
    """A share of examples with its confidence interval.

    Attributes:
        value: The share that was measured.
        low: Lower end of the interval.
        high: Upper end of the interval.
        count: How many examples it was measured on.

    Example:

    >>> MeasuredShare.of(np.array([True, True, False, True])).value
    0.75
    """

    value: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, hits, confidence=0.95) -> "MeasuredShare":
        """Measures a boolean array of shape (count,)."""
        low, high = proportion_interval(int(hits.sum()), len(hits), confidence)
        return cls(float(hits.mean()), low, high, len(hits))

    def __str__(self):
        return f"{self.value:.2%} ({self.low:.2%} to {self.high:.2%})"


@dataclass(frozen=True)
class BackdoorRepairReport:
    """What a repair changed, by `retrain_without` and `unlearn_trigger`.

    Attributes:
        method: What was done, in words.
        clean_before: Accuracy on untouched examples before the repair.
        clean_after: The same after it.
        attack_before: Share of the stamped examples of other classes that the model gave to the
            target, before the repair; None without a trigger to measure with.
        attack_after: The same after it.
        max_attack_success: Attack success above which the repair failed.
        max_clean_cost: Loss of accuracy above which it was too dear.

    Example:

    >>> share = MeasuredShare.of
    >>> yes, no = np.ones(500, bool), np.zeros(500, bool)
    >>> report = BackdoorRepairReport("by hand", share(yes), share(yes), share(yes), share(no))
    >>> report.succeeded, report.findings()[0].severity
    (True, 'ok')
    """

    method: str
    clean_before: MeasuredShare
    clean_after: MeasuredShare
    attack_before: MeasuredShare | None
    attack_after: MeasuredShare | None
    max_attack_success: float = 0.05
    max_clean_cost: float = 0.01

    @property
    def clean_cost(self) -> float:
        """Accuracy that the repair cost; negative where it gained."""
        return self.clean_before.value - self.clean_after.value

    @property
    def succeeded(self) -> bool:
        """Whether accuracy was kept and, as far as it was measured, the attack stopped."""
        stopped = self.attack_after is None or self.attack_after.value <= self.max_attack_success
        return stopped and self.clean_cost <= self.max_clean_cost

    def to_dict(self) -> dict[str, Any]:
        """Returns the values, ready for JSON."""
        shares = ("clean_before", "clean_after", "attack_before", "attack_after")
        measured = {name: getattr(self, name) for name in shares}
        return {
            "method": self.method,
            **{name: None if one is None else vars(one) for name, one in measured.items()},
            "clean_cost": self.clean_cost,
            "max_attack_success": self.max_attack_success,
            "max_clean_cost": self.max_clean_cost,
        }

    def findings(self) -> list[Finding]:
        """The backdoor's success and the cost, as findings for an audit."""
        evidence = self.to_dict()
        found = []
        if self.attack_after is None:
            found.append(
                Finding(
                    "repair.backdoor",
                    "info",
                    "The repair was not measured against a trigger.",
                    evidence,
                    "Pass `stamp` and `target`, for example of a NeuralCleanse report.",
                )
            )
        else:
            stopped = self.attack_after.value <= self.max_attack_success
            before = f"{self.attack_before.value:.1%}" if self.attack_before else "unknown"
            found.append(
                Finding(
                    "repair.backdoor",
                    "ok" if stopped else "high",
                    f"The trigger succeeds on {self.attack_after} of the inputs, {before} before.",
                    evidence,
                    "" if stopped else "Train longer, or from scratch on data that you trust.",
                )
            )
        cheap = self.clean_cost <= self.max_clean_cost
        found.append(
            Finding(
                "repair.clean_accuracy",
                "ok" if cheap else "medium",
                f"Clean accuracy is {self.clean_after}, {self.clean_before.value:.2%} before.",
                evidence,
                "" if cheap else "Use more clean data, fewer epochs or a smaller learning rate.",
            )
        )
        return found


def measure_backdoor(model, x, y, stamp=None, target=None, *, confidence=0.95, batch_size=512):
    """Clean accuracy of a classifier, and how often a trigger gets its way.

    Args:
        model: Classifier.
        x: Clean inputs, shape (num_examples, ...), that were not trained on.
        y: Their labels, integers of shape (num_examples,).
        stamp: Function from inputs to inputs with the trigger, or None.
        target: The class the trigger leads to.
        confidence: Coverage of the intervals.
        batch_size: Examples per forward pass.

    Returns:
        (accuracy, attack success): `MeasuredShare`s, the second over the examples of other classes
        than `target`, or None without `stamp`.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Softmax()])
    >>> x = np.eye(2, dtype="float32")
    >>> clean, attack = measure_backdoor(model, x, np.arange(2), lambda x: x[:, ::-1], 1)
    >>> clean.value, attack.value, attack.count
    (1.0, 1.0, 1)
    """
    y = np.asarray(y)
    clean = MeasuredShare.of(predicted_classes(model, x, batch_size) == y, confidence)
    if stamp is None:
        return clean, None
    stamped = stamp(np.asarray(x)[y != target])
    turned = predicted_classes(model, stamped, batch_size) == target
    return clean, MeasuredShare.of(turned, confidence)


def predicted_classes(model, x, batch_size=512):
    """The classes that a classifier gives, as integers.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Softmax()])
    >>> predicted_classes(model, np.eye(2, dtype="float32")).tolist()
    [0, 1]
    """
    outputs = model.predict(x, batch_size=batch_size, verbose=0)
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        # A single unit is on one side of zero or of one half, which only the logits tell.
        outputs = np.asarray(logits_of(keras.ops.convert_to_tensor(outputs), model))
    return outputs.argmax(axis=1)
