"""What a certifier proved about each example, and what follows for a test set."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_secure.arguments import check_number
from keras_secure.errors import InputError
from keras_secure.intervals import proportion_interval


@dataclass(frozen=True)
class Estimate:
    """A figure measured on a sample, with its confidence interval.

    Attributes:
        value: What was measured.
        low: Lower end of the interval.
        high: Upper end of the interval.

    Example:

    >>> Estimate(0.9, low=0.85, high=0.94).low
    0.85
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Certificate:
    """Predictions, each with the radius within which it was proven not to change.

    A certificate speaks of the prediction, right or wrong: whether it is right is for the labels
    given to the methods to say.

    Args:
        prediction: Integer array of shape (num,): the class proven, -1 where the certifier
            abstained.
        radius: Array of shape (num,), kept as float64: no input within this distance, in `norm`,
            is answered otherwise. 0 where the certifier abstained, and where it proved nothing
            beyond the input itself (as where labels were given to it and the prediction is wrong).
        norm: `"linf"` or `"l2"`.
        details: What else the certifier has to say, by name.

    Raises:
        InputError: If the arrays do not fit together.

    Example:

    >>> certificate = Certificate(np.array([2, 0, -1]), np.array([0.5, 0.1, 0.0]), "l2")
    >>> certificate.certified_accuracy([2, 0, 1], radius=0.25).value
    0.3333333333333333
    >>> round(certificate.average_certified_radius([2, 1, 1]).value, 4)
    0.1667

    Reference:
        Certified accuracy: Cohen et al. 2019, arXiv 1902.02918, section 4. Average certified
        radius: Zhai et al. 2020, arXiv 2001.02378, section 4.
    """

    prediction: np.ndarray
    radius: np.ndarray
    norm: str
    details: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self):
        prediction = np.asarray(self.prediction)
        radius = np.asarray(self.radius, "float64")
        if prediction.ndim != 1 or prediction.shape != radius.shape:
            raise InputError(
                f"prediction has the shape {prediction.shape} and radius {radius.shape}; both must "
                "be (num,), one entry for each example."
            )
        if not (radius >= 0).all() or (radius[prediction < 0] != 0).any():
            raise InputError(
                "A radius is negative or NaN, or positive where the certifier abstained "
                "(prediction -1); a radius must be >= 0, and 0 where nothing was proven."
            )
        object.__setattr__(self, "prediction", prediction.astype("int64"))
        object.__setattr__(self, "radius", radius)

    def correct(self, labels) -> np.ndarray:
        """Returns which predictions agree with the labels; an abstention never does.

        Args:
            labels: Class indices of shape (num,) or (num, 1), or one-hot rows.
        """
        labels = np.asarray(labels)
        if labels.ndim == 2:
            labels = labels[:, 0] if labels.shape[1] == 1 else labels.argmax(axis=1)
        if labels.shape != self.prediction.shape:
            raise InputError(
                f"There are labels of shape {labels.shape} for {len(self.prediction)} certified "
                "examples; give one label for each."
            )
        return (self.prediction == labels) & (self.prediction >= 0)

    def certified_accuracy(self, labels, radius, confidence=0.95) -> Estimate:
        """Returns the share of examples that are right, provably so within `radius`.

        Args:
            labels: Class indices of shape (num,), or one-hot rows.
            radius: Distance in `norm`, at least 0. At 0 abstentions still count as wrong.
            confidence: Coverage of the Clopper-Pearson interval, over the draw of the examples.

        Returns:
            An `Estimate`: `value`, `low`, `high`.
        """
        check_number("radius", radius, "[0, inf]")
        holds = self.correct(labels) & (self.radius >= radius)
        low, high = proportion_interval(int(holds.sum()), len(holds), confidence)
        return Estimate(float(holds.mean()), low, high)

    def average_certified_radius(self, labels, confidence=0.95) -> Estimate:
        """Returns the mean radius, where a wrong prediction or an abstention counts as 0.

        Args:
            labels: Class indices of shape (num,), or one-hot rows.
            confidence: Coverage of the interval, over the draw of the examples. Student's t, so
                approximate: exact intervals exist for shares only.

        Returns:
            An `Estimate`: `value`, `low`, `high`; the interval is infinite for one example.
        """
        check_number("confidence", confidence, "(0, 1)")
        radii = np.where(self.correct(labels), self.radius, 0.0)
        num, mean = len(radii), float(radii.mean())
        if num < 2:
            return Estimate(mean, 0.0, float("inf"))
        from scipy.stats import t

        reach = float(t.ppf(0.5 + confidence / 2, num - 1) * radii.std(ddof=1) / np.sqrt(num))
        return Estimate(mean, max(mean - reach, 0.0), mean + reach)
