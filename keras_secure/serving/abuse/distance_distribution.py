"""Queries whose distances are not those of nature: the mark of inputs made to extract a model."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_secure.arguments import check_integer, check_number
from keras_secure.errors import InputError
from keras_secure.findings import Finding
from keras_secure.serving.abuse.detector import (
    Memory,
    as_rows,
    top_classes,
)

# Sizes of inputs that are remembered of an identity, which may send texts of any length.
_MOST_SIZES = 8
LATEST = 500
"""Distances that the test looks at: enough to judge a shape by, few enough to be quick."""


@dataclass
class _History:
    kept: dict[int, np.ndarray] = field(default_factory=dict)
    threshold: dict[int, float] = field(default_factory=dict)
    by_class: dict[int, list[float]] = field(default_factory=dict)
    distances: list[float] = field(default_factory=list)
    since: int = 0


class DistanceDistribution:
    """PRADA: a client's smallest distances to its own earlier inputs should look normal.

    For each identity and each predicted class the inputs that lie far from all kept ones are
    kept. The distances of new inputs to the nearest kept one, of all classes together, go through
    a test of normality (Shapiro and Wilk). Inputs that are made from each other for the sake of
    extraction come at peculiar distances, and the statistic W falls below `threshold`.

    Honest traffic need not look normal either: calibrate on traffic of yours, see `calibrated`.
    An attacker who pads his queries with natural ones, or steals with natural inputs alone, is
    not seen; query budgets bound him.

    Args:
        threshold: The alarm is raised below this W. Defaults to 0.9.
        least: Inputs of an identity before it is judged. Defaults to 100.
        every: Inputs between two judgements. Defaults to 25.
        max_kept: Inputs kept of an identity and a class; they stay in memory. Defaults to 500.
        max_identities: Identities that are remembered. Defaults to 1,000.

    Raises:
        InputError: An argument is out of its range.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> detector, answers = DistanceDistribution(), np.tile([[0.9, 0.1]], (400, 1))
    >>> detector.observe("honest", rng.normal(size=(400, 50)), answers) is None
    True
    >>> seed = rng.normal(size=(20, 50))
    >>> steps = 0.1 * np.sign(rng.normal(size=(380, 50)))
    >>> jumps = np.concatenate([seed, seed[rng.integers(20, size=380)] + steps])
    >>> detector.observe("thief", jumps, answers).id
    'abuse.distance_distribution'

    Reference:
        Juuti et al. 2019, PRADA: protecting against DNN model stealing attacks (EuroS&P), section
        5 and algorithm 3.
    """

    def __init__(
        self,
        threshold: float = 0.9,
        least: int = 100,
        every: int = 25,
        max_kept: int = 500,
        max_identities: int = 1_000,
    ):
        self.threshold = check_number("threshold", threshold, "(0, 1]")
        self.least, self.every = check_integer("least", least, 3), check_integer("every", every)
        self.max_kept = check_integer("max_kept", max_kept)
        self._histories = Memory(dict, max_identities)

    @classmethod
    def calibrated(
        cls, streams: Iterable[tuple[Any, Any]], false_alarms: float = 0.01, **options: Any
    ) -> "DistanceDistribution":
        """A detector whose threshold lets honest clients pass.

        Args:
            streams: Pairs of inputs and outputs, one for each honest client, at least 10.
            false_alarms: Share of honest clients that may ever raise the alarm. Defaults to 0.01;
                with fewer than 1 / false_alarms streams the lowest W seen is taken.
            **options: Further arguments of the class.

        Returns:
            A `DistanceDistribution`.

        Raises:
            InputError: Fewer than 10 streams are long enough to be judged.
        """
        lowest = []
        for inputs, outputs in streams:
            watcher = cls(**options)
            seen = watcher._statistics("", inputs, outputs)
            lowest += [min(seen)] if seen else []
        if len(lowest) < 10:
            raise InputError(
                f"{len(lowest)} streams have more inputs than `least`; at least 10 were expected. "
                "Give the traffic of more honest clients."
            )
        check_number("false_alarms", false_alarms, "(0, 1]")
        threshold = float(np.quantile(lowest, false_alarms, method="lower"))
        return cls(**{**options, "threshold": min(threshold, 1.0)})

    def observe(self, identity: str, inputs: Any, outputs: Any) -> Finding | None:
        """Takes one request; see `Detector.observe`."""
        lowest = min(self._statistics(identity, inputs, outputs), default=1.0)
        if lowest >= self.threshold:
            return None
        return Finding(
            "abuse.distance_distribution",
            "high",
            f"The distances between the inputs of {identity!r} are not those of natural inputs "
            f"(W = {lowest:.3f}, below {self.threshold:.3f}), as when a model is extracted.",
            {"identity": identity, "w": lowest, "threshold": self.threshold},
            "Lower the query budget of this identity, and look at what it sends.",
        )

    def _history(self, identity: str, size: int) -> _History:
        """What is remembered of inputs of one size: those of others lie at no distance to them."""
        own: dict[int, _History] = self._histories.of(identity)
        if size not in own and len(own) >= _MOST_SIZES:
            del own[next(iter(own))]
        return own.setdefault(size, _History())

    def _statistics(self, identity: str, inputs: Any, outputs: Any) -> list[float]:
        """The values of W at the judgements that fall into these inputs."""
        found, rows = [], as_rows(inputs)
        history = self._history(identity, rows.shape[1])
        for row, label in zip(rows, top_classes(outputs).tolist(), strict=True):
            self._add(history, row, label)
            history.since += 1
            if len(history.distances) >= self.least and history.since >= self.every:
                history.since = 0
                found.append(_normality(np.array(history.distances)))
        return found

    def _add(self, history: _History, row: np.ndarray, label: int) -> None:
        kept = history.kept.get(label)
        if kept is None:
            history.kept[label] = row[None]
            return
        distance = float(np.sqrt(np.min(np.sum((kept - row) ** 2, axis=1))))
        history.distances.append(distance)
        del history.distances[:-LATEST]
        own = history.by_class.setdefault(label, [])
        own.append(distance)
        del own[:-LATEST]
        limit = max(history.threshold.get(label, 0.0), float(np.mean(own) - np.std(own)))
        history.threshold[label] = limit
        if distance > limit and len(kept) < self.max_kept:
            history.kept[label] = np.vstack([kept, row])


def _normality(distances: np.ndarray) -> float:
    """The statistic of Shapiro and Wilk, without what lies over three deviations off."""
    from scipy.stats import shapiro

    spread = distances.std()
    inner = distances[np.abs(distances - distances.mean()) <= 3 * spread]
    if len(inner) < 3 or np.ptp(inner) == 0:
        return 0.0  # all the same: nature does not do that
    return float(shapiro(inner).statistic)
