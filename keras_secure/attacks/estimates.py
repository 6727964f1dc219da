"""Figures measured on a sample of examples, with their confidence intervals."""

import math
from dataclasses import dataclass, field

import numpy as np

from keras_secure.intervals import proportion_interval


@dataclass(frozen=True)
class Accuracy:
    """A share of the examples, with its Clopper-Pearson interval.

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
class MeanLoss:
    """A loss averaged over the examples, with Student's interval.

    Losses have no upper bound, so no interval can be exact at every size of sample; Student's is
    right in the limit, and too narrow where a few examples carry most of the loss.

    Attributes:
        value: The average.
        low: Lower end of the interval.
        high: Upper end of the interval; infinite for a single example.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, losses: np.ndarray, confidence: float) -> "MeanLoss":
        """Averages losses of shape (num_examples,)."""
        losses = np.asarray(losses, "float64")
        mean = float(losses.mean())
        if len(losses) < 2 or not math.isfinite(mean):
            return cls(mean, -math.inf, math.inf)
        from scipy.stats import t

        reach = t.ppf(0.5 + confidence / 2, len(losses) - 1)
        reach = float(reach * losses.std(ddof=1) / math.sqrt(len(losses)))
        return cls(mean, mean - reach, mean + reach)

    def to_dict(self) -> dict[str, float | None]:
        """Returns the three numbers; None where one is not finite."""
        values = {"mean": self.value, "low": self.low, "high": self.high}
        return {name: _finite(value) for name, value in values.items()}


@dataclass(frozen=True)
class Quantile:
    """A quantile of the distances, between two of them that hold it.

    Attributes:
        share: Which quantile, in (0, 1).
        value: The smallest distance that at least this share of the examples do not exceed;
            infinite if fewer were fooled.
        low: Lower end of the interval, one of the distances, or 0.
        high: Upper end of the interval, one of the distances, or infinity.
    """

    share: float
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, distances: np.ndarray, share: float, confidence: float) -> "Quantile":
        """Finds a quantile of distances of shape (num_examples,), some of them infinite.

        The interval lies between two order statistics, chosen by the binomial distribution of how
        many distances are below the true quantile; it covers that at least `confidence` often,
        whatever the distribution.

        Example:

        >>> Quantile.of(np.arange(1.0, 101.0), 0.5, 0.95)
        Quantile(share=0.5, value=50.0, low=40.0, high=61.0)

        Reference:
            David & Nagaraja 2003, "Order statistics", section 7.1.
        """
        from scipy.stats import binom

        ordered = np.sort(np.asarray(distances, "float64"))
        count, tail = len(ordered), (1 - confidence) / 2
        value = ordered[max(math.ceil(share * count - 1e-9), 1) - 1]
        # P(fewer than `below` distances lie under the quantile) <= tail, and likewise above.
        below = int(binom.ppf(tail, count, share))
        above = int(binom.ppf(1 - tail, count, share)) + 1
        low = ordered[below - 1] if below >= 1 else 0.0
        high = ordered[above - 1] if above <= count else math.inf
        return cls(float(share), float(value), float(low), float(high))

    def to_dict(self) -> dict[str, float | None]:
        """Returns share, distance and interval; None stands for infinity."""
        values = {"distance": self.value, "low": self.low, "high": self.high}
        return {"share": self.share, **{name: _finite(value) for name, value in values.items()}}


@dataclass(frozen=True)
class Distances:
    """How far an input must be moved to be answered wrongly, as far as attacks have found.

    Attributes:
        upper_bound: Whether the attacks filled a ball, so that the distances are those of whatever
            fooled first in it; False if an attack looked for the nearest input. Either way the
            true distance may be smaller.
        quantiles: `Quantile` of the shares 0.1, 0.25, 0.5, 0.75 and 0.9, over all examples: 0 where
            one was wrong untouched, infinite where nothing that fools was found.
        found: Share of the examples for which there is a distance.
        nearest: Array of shape (num_examples,): the distances.
    """

    upper_bound: bool
    quantiles: tuple[Quantile, ...]
    found: Accuracy
    nearest: np.ndarray = field(repr=False)

    SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)

    @classmethod
    def of(cls, nearest: np.ndarray, upper_bound: bool, confidence: float) -> "Distances":
        """Summarizes distances of shape (num_examples,)."""
        return cls(
            upper_bound,
            tuple(Quantile.of(nearest, share, confidence) for share in cls.SHARES),
            Accuracy.of(np.isfinite(nearest), confidence),
            nearest,
        )

    @property
    def median(self) -> Quantile:
        """The distance that half of the examples do not exceed."""
        return next(each for each in self.quantiles if each.share == 0.5)

    def to_dict(self):
        """Returns everything but the distances one by one, ready for JSON."""
        found = self.found.to_dict()
        return {
            "upper_bound": self.upper_bound,
            "found": {"share": found.pop("accuracy"), **found},
            "quantiles": [each.to_dict() for each in self.quantiles],
        }


def _finite(value):
    return value if math.isfinite(value) else None
