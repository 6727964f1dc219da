"""Randomized smoothing as a part of the served graph."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_secure import backend
from keras_secure.arguments import check_integer, check_number, is_integer, is_number
from keras_secure.certification.binomial_bounds import (
    certified_radius,
    lower_bound,
    needed_successes,
)
from keras_secure.errors import InputError

# Passes of the selection are numbered from here, so that its noise is independent of the rest.
_SELECTION = 2**31


@dataclass(frozen=True)
class Smoothing:
    """Serves the class that a model gives most often under Gaussian noise.

    The vote is taken in the graph, in a loop of `copies` noisy copies of each example at a time, so
    that an answer costs `num_samples` of the plain one. Predictions are the shares of the votes.
    Where the vote is too close to call, the answer is an abstention. The signature `certified`
    proves a radius with each answer. See `keras_secure.certification.RandomizedSmoothing`, of which
    this is the served side, for what it is worth, and train the model under noise.

    Args:
        stddev: Standard deviation of the noise, in units of the inputs, above 0.
        num_samples: Noisy copies that vote on each example.
        alpha: Probability, at most, of an answer that is not the smoothed classifier's; and that
            the radius of an example is wrong.
        bounds: None, or the pair (low, high) that noisy copies are clipped to.
        num_selection: Further copies, that select the class whose radius is proved.
        seed: None for noise that nobody can foresee, drawn anew in each call; the promise of
            `alpha` holds for that alone. Or an integer, for answers that are repeatable, also by an
            attacker.
        copies: Noisy copies of the whole batch in one pass.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> int(Smoothing(stddev=0.25, num_samples=200).needed[200])  # votes of 200 between two classes
    124

    Reference:
        Cohen, Rosenfeld & Kolter 2019, Certified Adversarial Robustness via Randomized Smoothing,
        arXiv 1902.02918, section 3.2: PREDICT and CERTIFY.
    """

    stddev: float
    num_samples: int = 100
    alpha: float = 0.001
    bounds: tuple[float, float] | None = None
    num_selection: int = 32
    seed: int | None = None
    copies: int = 16

    def __post_init__(self):
        check_number("stddev", self.stddev, "(0, inf)")
        for name in ("num_samples", "num_selection", "copies"):
            value = getattr(self, name)
            check_integer(name, value, 1, 10000)
        check_number("alpha", self.alpha, "(0, 1)")
        if self.seed is not None and not (is_integer(self.seed) and 0 <= self.seed < 2**63):
            raise InputError(f"seed={self.seed!r}; None or an integer of at least 0 was expected.")
        if self.bounds is not None:
            pair = tuple(self.bounds) if isinstance(self.bounds, list | tuple) else ()
            if len(pair) != 2 or not all(map(is_number, pair)) or not pair[0] < pair[1]:
                raise InputError(
                    f"bounds={self.bounds!r}; None or a pair (low, high) was expected."
                )

    @property
    def needed(self) -> np.ndarray:
        """By the votes for the first two classes together: how many the first must have."""
        # The two-sided test of Hung & Fithian: whether the first beats the second by luck.
        return np.array(
            [
                needed_successes(0.5, both, self.alpha / 2) if both else 1
                for both in range(self.num_samples + 1)
            ]
        )

    @property
    def radii(self) -> np.ndarray:
        """By the votes for the selected class: the radius that they prove, 0 for none; float32."""
        successes = np.arange(self.num_samples + 1)
        bounds = lower_bound(successes, self.num_samples, self.alpha)
        exact = certified_radius(bounds, self.stddev)
        rounded = exact.astype("float32")
        # A bound is never rounded up.
        return np.where(rounded > exact, np.nextafter(rounded, np.float32(0)), rounded)

    def vote(self, model: Any, x: Any, logits: bool | None) -> tuple[Any, Any]:
        """The shares of the votes, (batch, classes), and whether each vote is decided, (batch,).

        An example for which nothing but NaNs was answered has shares that are NaN.
        """
        ops = keras.ops
        counts = self._counts(model, x, logits, self._key(), 0, self.num_samples)
        ordered = ops.sort(counts, axis=-1)
        first, both = ordered[:, -1], ordered[:, -1] + ordered[:, -2]
        decided = first >= ops.take(ops.convert_to_tensor(self.needed, "int32"), both)
        votes = ops.cast(counts, "float32")
        return votes / ops.sum(votes, axis=-1, keepdims=True), decided

    def certify(self, model: Any, x: Any, logits: bool | None) -> tuple[Any, Any]:
        """The class selected, int32 (batch,), and the radius proved for it, float32 (batch,)."""
        ops = keras.ops
        key = self._key()
        selection = self._counts(model, x, logits, key, _SELECTION, self.num_selection)
        selected = ops.cast(ops.argmax(selection, axis=-1), "int32")
        counts = self._counts(model, x, logits, key, 0, self.num_samples)
        mine = ops.one_hot(selected, counts.shape[-1], dtype="int32")
        successes = ops.sum(counts * mine, axis=-1)
        return selected, ops.take(ops.convert_to_tensor(self.radii), successes)

    def _key(self) -> Any:
        if self.seed is None:
            return backend.unforeseen_key()
        return keras.ops.convert_to_tensor(np.array([self.seed, 0], "int64"))

    def _counts(
        self, model: Any, x: Any, logits: bool | None, key: Any, start: int, num_samples: int
    ) -> Any:
        """The votes for each class, int32 (batch, classes).

        All examples of a batch see the same noise, which costs less, and lets no answer depend on
        the place of its example in the batch.
        """
        ops = keras.ops
        shape = tuple(x.shape[1:])
        if not shape or None in shape or not keras.backend.is_float_dtype(x.dtype):
            raise InputError(
                f"Smoothing got inputs of shape {tuple(x.shape)} and dtype {x.dtype}; noise is "
                "added to floating point numbers of a known shape."
            )
        copies = min(self.copies, num_samples)
        classes = max(2, _num_classes(model, (None, *shape), x.dtype))

        def step(turn, counts):
            noise = backend.portable_normal((1, copies, *shape), self.stddev, key, turn + start)
            noisy = ops.expand_dims(x, 1) + ops.cast(noise, x.dtype)
            if self.bounds is not None:
                noisy = ops.clip(noisy, *self.bounds)
            answers = _answers(model, ops.reshape(noisy, (-1, *shape)), logits)
            voted = ops.where(
                ops.any(ops.isnan(answers), axis=-1), -1, ops.argmax(answers, axis=-1)
            )
            number = ops.cast(turn, "int32") * copies + ops.arange(copies, dtype="int32")
            # A class of -1 has no column.
            voted = ops.where(number[None] < num_samples, ops.reshape(voted, (-1, copies)), -1)
            votes = ops.one_hot(voted, classes, dtype="int32")
            return turn + 1, counts + ops.sum(votes, axis=1)

        turns = -(-num_samples // copies)
        none = ops.zeros((ops.shape(x)[0], classes), "int32")
        return backend.sequential_loop(
            lambda turn, counts: turn < turns, step, (ops.zeros((), "int64"), none)
        )[1]


def _num_classes(model: Any, shape: Any, dtype: Any) -> int:
    outputs = model.compute_output_spec(keras.KerasTensor(shape, dtype=dtype))
    found: Any = getattr(outputs, "shape", ())
    if len(found) != 2 or found[1] is None:
        raise InputError(
            f"Smoothing got a model that answers with {outputs}; a classifier with outputs of "
            "shape (batch, classes) was expected."
        )
    return found[1]


def _answers(model: Any, x: Any, logits: bool | None) -> Any:
    """One value for each class, of which the largest is the answer."""
    ops = keras.ops
    raw = ops.cast(model(x, training=False), "float32")
    if raw.shape[-1] > 1:
        return raw
    if logits is None:
        raise InputError(
            f"Nothing tells whether the output of {model.name!r} is a logit or a probability, so "
            "no vote can be taken. Compile it with a loss that has from_logits."
        )
    return ops.concatenate([ops.full_like(raw, 0.0 if logits else 0.5), raw], axis=1)
