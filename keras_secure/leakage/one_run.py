"""An audit of privacy in one training run: coins decide which canaries are trained on."""

import keras
import numpy as np

from keras_secure.arguments import is_integer
from keras_secure.errors import InputError
from keras_secure.leakage.confidences import logit_confidences
from keras_secure.leakage.one_run_bound import one_run_epsilon
from keras_secure.leakage.one_run_report import Guesses, OneRunReport

SHARES_GUESSED = (0.75, 0.5, 0.25, 0.125)
"""Shares of the canaries that are guessed by default. A strong leak shows in all of them, a weak
one in the surest few; trying four numbers costs a fourfold p-value, which is little. Not all are
guessed: the coins rarely put exactly half of them in."""


class OneRunAudit:
    """A lower bound on epsilon from a single training run.

    Each canary is put into the training data or left out by a fair coin. After training, the
    canaries that the model knows best are guessed to have been in, those it knows least to have
    been out, and the rest are left open. Private training bounds how many guesses can be right, so
    many right ones refute a small epsilon.

    The bound holds for any way of training and any canaries, at the confidence given; how close it
    comes to the true epsilon depends on how well canaries are remembered. The run must be private
    for data sets that differ in one example added or removed, as `DPOptimizer` is.

    Args:
        x_canaries: Inputs of the canaries, an array of shape (m, ...) or a nested structure of
            them. See `mislabelled_canaries`.
        y_canaries: Their labels, in the form of the training labels.
        seed: Of the coins, for repeatable tests; None draws them from the operating system.

    Raises:
        InputError: If inputs and labels differ in number, or there are fewer than 2.

    Example:

    >>> x, y = np.zeros((64, 3), "float32"), np.zeros(64, int)
    >>> audit = OneRunAudit(np.eye(40, 3, dtype="float32"), np.ones(40, int), seed=0)
    >>> x_train, y_train = audit.training_data(x, y)              # fit on these
    >>> len(x_train) - 64, int(audit.included.sum())
    (16, 16)
    >>> report = audit.lower_bound(np.where(audit.included, 1.0, 0.0), delta=1e-5)
    >>> report.num_correct, round(report.epsilon_lower, 2)        # scores that give all away
    (30, 1.85)

    Reference: Steinke, Nasr and Jagielski 2023, arXiv 2305.08846, algorithm 1.
    """

    def __init__(self, x_canaries, y_canaries, *, seed: int | None = None):
        x_canaries = keras.tree.map_structure(np.asarray, x_canaries)
        y_canaries = np.asarray(y_canaries)
        lengths = {len(array) for array in keras.tree.flatten(x_canaries)}
        if lengths != {len(y_canaries)} or len(y_canaries) < 2:
            raise InputError(
                f"x_canaries has {sorted(lengths)} examples and y_canaries {len(y_canaries)}; "
                f"expected the same number, 2 or more."
            )
        self.x_canaries, self.y_canaries = x_canaries, y_canaries
        self.included = np.random.default_rng(seed).random(len(y_canaries)) < 0.5

    @property
    def num_canaries(self) -> int:
        """How many coins were tossed."""
        return len(self.y_canaries)

    def training_data(self, x, y):
        """Adds the canaries whose coin says so.

        Args:
            x: Training inputs, structured like the canaries.
            y: Training labels, in the form of the canaries' labels.

        Returns:
            (x, y) as new arrays of the types given: the training data, then the included canaries.
            Under `DPOptimizer` batches are drawn from it at random; where you batch yourself,
            shuffle first.

        Raises:
            InputError: If the canaries do not have the shape of the data.
        """
        chosen = keras.tree.map_structure(lambda array: array[self.included], self.x_canaries)
        try:
            joined = keras.tree.map_structure(_joined, x, chosen)
        except (ValueError, TypeError) as error:
            raise InputError(
                f"The canaries' inputs do not join the training inputs ({error}); give both the "
                f"same structure and shape of an example."
            ) from error
        labels = np.asarray(y)
        if labels.shape[1:] != self.y_canaries.shape[1:]:
            raise InputError(
                f"Training labels have shape {labels.shape} and the canaries' "
                f"{self.y_canaries.shape}; give both as integers or both as one-hot rows."
            )
        return joined, _joined(labels, self.y_canaries[self.included])

    def scores(self, model, *, batch_size: int = 256, from_logits=None) -> np.ndarray:
        """How well a model knows each canary.

        Args:
            model: A Keras classifier.
            batch_size: Examples per forward pass.
            from_logits: Whether the model gives logits; None to find out.

        Returns:
            Log odds of the canaries' labels, shape (num_canaries,), higher is better known.
        """
        return logit_confidences(
            model, self.x_canaries, self.y_canaries, batch_size=batch_size, from_logits=from_logits
        )

    def lower_bound(
        self,
        model_or_scores,
        delta: float,
        *,
        confidence: float = 0.95,
        reference=None,
        num_guesses=None,
    ) -> OneRunReport:
        """Guesses the coins and bounds epsilon from below.

        Args:
            model_or_scores: The trained Keras classifier; or one score per canary, shape
                (num_canaries,), higher where it is surer to have been in. Scores may come from
                anything that training released, but not from the coins.
            delta: The delta of the guarantee that is tested.
            confidence: One-sided confidence of the bound, in (0, 1).
            reference: What is known without having trained on the canaries, subtracted from the
                scores: the model before training, or scores. None for nothing.
            num_guesses: How many canaries to guess, half of them "in", or several numbers to try;
                fix them before looking at the outcome. None for 3/4, 1/2, 1/4 and 1/8 of them. For
                several, the error allowed is divided among them.

        Returns:
            A `OneRunReport`; its `finding(epsilon)` holds it against a ledger.

        Raises:
            InputError: If scores or numbers cannot be used.
        """
        scores = self._scores(model_or_scores)
        if reference is not None:
            # Infinite on both sides says nothing either way.
            before = self._scores(reference)
            with np.errstate(invalid="ignore"):
                scores = np.where(scores == before, 0.0, scores - before)
        numbers = self._numbers(num_guesses)
        # All numbers are tried on the same coins: by the union bound, the bounds hold together.
        each = 1.0 - (1.0 - confidence) / len(numbers)
        # Ties are broken by position, which the coins know nothing of.
        order = np.argsort(scores, kind="stable")
        tried = []
        for number in numbers:
            half = number // 2
            correct = int(np.sum(~self.included[order[:half]]))
            correct += int(np.sum(self.included[order[len(order) - (number - half) :]]))
            bound = one_run_epsilon(self.num_canaries, number, correct, delta, each)
            tried.append(Guesses(number, correct, bound))
        best = max(tried, key=lambda guesses: guesses.epsilon_lower)
        return OneRunReport(
            epsilon_lower=best.epsilon_lower,
            delta=float(delta),
            confidence=confidence,
            num_canaries=self.num_canaries,
            num_included=int(self.included.sum()),
            num_guesses=best.num_guesses,
            num_correct=best.num_correct,
            tried=tuple(tried),
        )

    def _scores(self, model_or_scores) -> np.ndarray:
        if isinstance(model_or_scores, keras.Model):
            model_or_scores = self.scores(model_or_scores)
        scores = np.asarray(model_or_scores, dtype=np.float64)
        if scores.shape != (self.num_canaries,) or np.isnan(scores).any():
            raise InputError(
                f"Scores have shape {scores.shape} and {int(np.isnan(scores).sum())} NaN; expected "
                f"one number for each of the {self.num_canaries} canaries: check whether the model "
                f"has diverged."
            )
        return scores

    def _numbers(self, num_guesses) -> list[int]:
        if num_guesses is None:
            # At least 2, and each number once.
            found = {max(2, int(share * self.num_canaries)) for share in SHARES_GUESSED}
            return sorted(found, reverse=True)
        numbers = [num_guesses] if is_integer(num_guesses) else list(num_guesses)
        if not numbers or not all(is_integer(n) and 1 <= n <= self.num_canaries for n in numbers):
            raise InputError(
                f"num_guesses={num_guesses!r} cannot be used: give one integer from 1 to "
                f"{self.num_canaries}, or several."
            )
        return [int(number) for number in numbers]


def _joined(data, canaries):
    data = np.asarray(data)
    return np.concatenate([data, canaries.astype(data.dtype)])
