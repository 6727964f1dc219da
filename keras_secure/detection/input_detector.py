"""The frame of detectors of adversarial inputs: fitted on clean data to a false-positive rate."""

import math
from dataclasses import dataclass

import numpy as np
from keras import ops

from keras_secure import backend
from keras_secure.arguments import check_number
from keras_secure.errors import InputError


@dataclass(frozen=True)
class Calibration:
    """A threshold, and what may be said of its false-positive rate.

    Attributes:
        threshold: Inputs with a larger score are flagged.
        scale: Median absolute deviation of the clean scores, times 1.4826: their natural unit.
        num_examples: Clean examples that the threshold was chosen on.
        expected_rate: Promised mean false-positive rate, k / (n + 1), where k - 1 of the n clean
            scores lie above the threshold: a new clean score falls with equal chances into each
            of the n + 1 gaps, whatever the distribution.

    Example:

    >>> calibration = calibrate(np.arange(99.0), 0.05)
    >>> calibration.threshold, calibration.expected_rate
    (94.0, 0.05)
    >>> round(calibration.rate_bound(0.95), 3)
    0.09
    """

    threshold: float
    scale: float
    num_examples: int
    expected_rate: float

    def rate_bound(self, confidence=0.95):
        """The rate of this very threshold, bounded from above.

        The promise is a mean over calibration sets; the rate of one threshold varies around it,
        as a beta distribution where scores are continuous.

        Args:
            confidence: How often the bound holds, in (0, 1).

        Returns:
            A float in [0, 1].
        """
        from scipy.stats import beta

        above = round(self.expected_rate * (self.num_examples + 1))
        return float(beta.ppf(confidence, above, self.num_examples + 1 - above))


def calibrate(scores, false_positive_rate):
    """The smallest threshold whose expected false-positive rate is at most the one given.

    Args:
        scores: Scores of clean examples, shape (n,).
        false_positive_rate: In (0, 1).

    Returns:
        A `Calibration`: its threshold is the order statistic of rank
        ceil((n + 1) (1 - false_positive_rate)).

    Raises:
        InputError: If a score is not finite, or n is too small for so small a rate.

    Example:

    >>> calibrate(np.arange(19.0), 0.05).threshold
    18.0

    Reference: Vovk, Gammerman & Shafer 2005, "Algorithmic learning in a random world", section 2.2.
    """
    scores = np.sort(np.asarray(scores, "float64"))
    check_number("false_positive_rate", false_positive_rate, "(0, 1)")
    if not np.isfinite(scores).all():
        raise InputError("A clean score is not finite; look at the model's outputs and features.")
    count = len(scores)
    # The rate may be a rounded decimal: 20 * 0.95 must count as 19, not as a little more.
    rank = math.ceil((count + 1) * (1 - false_positive_rate) - 1e-9)
    if rank > count:
        raise InputError(
            f"{count} clean examples cannot promise a false-positive rate of "
            f"{false_positive_rate:g}: at least {math.ceil(1 / false_positive_rate - 1 - 1e-9)} "
            "are needed to calibrate on. Give more, or allow a higher rate."
        )
    scale = 1.4826 * float(np.median(np.abs(scores - np.median(scores))))
    if scale <= 0:
        scale = max(float(scores.std()), 1e-6)
    return Calibration(float(scores[rank - 1]), scale, count, (count + 1 - rank) / (count + 1))


class InputDetector:
    """Base of the detectors of adversarial inputs.

    A subclass writes `score`, traceable and differentiable, and `learn` if it has to learn from
    clean data; `learn` returns the examples that are left to calibrate on.

    Args:
        model: The classifier that is watched.
    """

    def __init__(self, model):
        self.model = model
        self.calibration = None
        self._compiled = None

    def score(self, x):
        """Scores a batch inside a graph.

        Args:
            x: Tensor of shape (batch, ...).

        Returns:
            A float32 tensor of shape (batch,); higher is more suspicious.
        """
        raise NotImplementedError(f"{type(self).__name__} must write `score`.")

    def learn(self, x_clean, y):
        """Learns what clean inputs look like; returns those to calibrate on."""
        return x_clean

    def fit(self, x_clean, y=None, false_positive_rate=0.05, *, batch_size=256):
        """Learns from clean data and sets the threshold.

        Args:
            x_clean: Clean inputs, shape (num_examples, ...), that the model was not trained on:
                on its training data scores are smaller than on new data.
            y: Their labels, integers of shape (num_examples,) or (num_examples, 1), or one-hot
                rows, where a detector learns by class; None for the model's own answers.
            false_positive_rate: Share of new clean inputs that may be flagged, in (0, 1).
            batch_size: Examples per step.

        Returns:
            The detector.

        Raises:
            InputError: If the data cannot be used or are too few.
        """
        x_clean = _checked_inputs(x_clean)
        if not np.isfinite(x_clean).all():
            raise InputError("x_clean holds NaN or infinity. Leave those examples out.")
        y = None if y is None else np.asarray(y)
        if y is not None and (y.ndim == 0 or len(y) != len(x_clean)):
            count = "none" if y.ndim == 0 else len(y)
            raise InputError(f"{len(x_clean)} inputs came with {count} labels: give one each.")
        if y is not None and y.ndim == 2:
            y = y.argmax(axis=1) if y.shape[1] > 1 else y[:, 0]
        self._compiled = None
        rest = self.learn(x_clean, y)
        self.calibration = calibrate(self.scores(rest, batch_size=batch_size), false_positive_rate)
        return self

    def scores(self, x, *, batch_size=256):
        """Scores whole arrays.

        Args:
            x: Array of shape (num_examples, ...).
            batch_size: Examples per step; the last batch is padded.

        Returns:
            float32 array of shape (num_examples,); infinite where nothing can be said, as of an
            input with NaN in it, so that it is flagged.

        Raises:
            InputError: If `x` is no array of numbers.
        """
        x = _checked_inputs(x)
        if self._compiled is None:
            self._compiled = backend.compiled(lambda batch: self.score(batch))
        found = []
        for start in range(0, len(x), batch_size):
            batch = x[start : start + batch_size]
            filling = np.repeat(batch[:1], batch_size - len(batch), axis=0)
            padded = ops.convert_to_tensor(np.concatenate([batch, filling]))
            found.append(ops.convert_to_numpy(self._compiled(padded))[: len(batch)])
        scores = np.concatenate(found) if found else np.zeros((0,), "float32")
        # A maximum may swallow NaN, and a comparison with NaN is never true.
        unknown = np.isnan(scores) | ~np.isfinite(x).all(axis=tuple(range(1, x.ndim)))
        return np.where(unknown, np.float32("inf"), scores)

    def flag(self, x, *, batch_size=256):
        """Which inputs look adversarial.

        Args:
            x: Array of shape (num_examples, ...).
            batch_size: Examples per step.

        Returns:
            Boolean array of shape (num_examples,).

        Raises:
            InputError: If the detector was not fitted.
        """
        return self.scores(x, batch_size=batch_size) > self._fitted().threshold

    def margin(self, x):
        """How far scores lie above the threshold, in the unit of clean scores; traceable.

        Args:
            x: Tensor of shape (batch, ...).

        Returns:
            A float32 tensor of shape (batch,), positive where `flag` is true.

        Raises:
            InputError: If the detector was not fitted.
        """
        calibration = self._fitted()
        return (self.score(x) - calibration.threshold) / calibration.scale

    def _fitted(self):
        if self.calibration is None:
            raise InputError(
                f"This {type(self).__name__} has no threshold yet: call fit(x_clean) first."
            )
        return self.calibration


def _checked_inputs(x):
    """Inputs as an array of floating point numbers, or why they cannot be scored."""
    x = np.asarray(x)
    numbers = x.dtype.kind in "iuf" or "float" in str(x.dtype)
    if x.ndim < 2 or not numbers:
        raise InputError(
            f"Inputs have type {x.dtype} and shape {x.shape}; expected an array of numbers of "
            "shape (num_examples, ...). Gather the examples of a dataset or a generator in one "
            "array first."
        )
    # Models that scale images themselves are given bytes, which no squeezer can work on.
    return x.astype("float32") if x.dtype.kind in "iu" else x
