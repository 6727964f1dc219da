"""Balls in bins: every example in one random batch of every pass."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keras_secure.errors import InputError, PrivacyError
from keras_secure.privacy.sampling.batches import Batches, multiple_of_eight
from keras_secure.privacy.sampling.poisson import physical_batch_size
from keras_secure.privacy.sampling.random_allocation import random_allocation_loss
from keras_secure.privacy.sampling.sampling import Sampling

# A fit that restores a backup, or whose first batch is read twice, touches passes beyond its own.
_SPARE_PASSES = 3


@dataclass(frozen=True)
class BallsInBinsSampling(Sampling):
    """Every example is thrown into one of the batches of a pass, anew for every pass.

    Amplifies about as Poisson sampling does, while every example is used once in every pass. A pass
    that was begun counts as a whole one. Neighbouring data sets differ in one example added or
    removed: examples are thrown independently, and no batch is ever cut.

    Args:
        steps_per_epoch: Number of batches of a pass.

    Raises:
        InputError: if `steps_per_epoch` is no positive int.

    Example:

    >>> from keras_secure import privacy
    >>> phase = privacy.Phase(privacy.BallsInBinsSampling(10), 2.0, 1.0, 8.0, steps=20)
    >>> round(privacy.epsilon(phase, 1e-5), 2)
    0.89

    Reference: Chua et al. 2024, Balls-and-Bins Sampling for DP-SGD (arXiv 2412.16802).
    """

    kind: ClassVar[str] = "balls_in_bins"
    counts_passes: ClassVar[bool] = True
    steps_per_epoch: int

    def __post_init__(self):
        steps = self.steps_per_epoch
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise InputError(f"steps_per_epoch is {steps!r}; it must be a positive int.")

    def loss_distribution(self, noise_multiplier, steps):
        """See `Sampling`."""
        passes = math.ceil(steps / self.steps_per_epoch)
        return random_allocation_loss(noise_multiplier, self.steps_per_epoch, passes)

    def event(self, noise_multiplier, steps):
        """See `Sampling`."""
        raise PrivacyError(
            "Renyi accounting does not know balls-in-bins batches; use accountant='pld'."
        )


class BallsInBinsBatches(Batches):
    """An endless stream of balls-in-bins batches of static shape.

    Nothing is cut: the throws of all planned passes are made before the first batch, and the shape
    holds the fullest bin of them all. The throws are repeated from their seeds when their pass
    comes, so they take no memory.

    Args:
        examples: See `Batches`.
        num_examples: Number of examples.
        batch_size: Mean size of a batch.
        steps: Steps that will be taken at most.
        seed: None draws from the operating system's entropy; an int makes the batches repeatable
            and the training not private.

    Example:

    >>> import numpy as np
    >>> batches = BallsInBinsBatches({"x": np.arange(6)}, 6, 2, steps=3, seed=0)
    >>> stream = iter(batches)
    >>> rows = [batch["x"][batch["mask"]] for batch, _ in zip(stream, range(3))]
    >>> sorted(np.concatenate(rows).tolist())
    [0, 1, 2, 3, 4, 5]
    """

    def __init__(self, examples, num_examples, batch_size, steps, seed=None):
        self.sampling = BallsInBinsSampling(math.ceil(num_examples / batch_size))
        bins = self.sampling.steps_per_epoch
        self._num_examples = num_examples
        self._seeds = np.random.SeedSequence(seed).spawn(math.ceil(steps / bins) + _SPARE_PASSES)
        fullest = max(int(np.bincount(self._throw(throw)).max()) for throw in self._seeds)
        usual = physical_batch_size(num_examples, num_examples / bins)
        super().__init__(examples, max(usual, multiple_of_eight(fullest, num_examples)))
        self._slots: dict[int, int] = {}
        self._current = None

    def draws(self, position):
        """See `Batches`."""
        while True:
            number, chosen = divmod(position, self.sampling.steps_per_epoch)
            order, ends = self._pass(number)
            yield order[ends[chosen] : ends[chosen + 1]]
            position += 1

    def _throw(self, seed):
        bins = self.sampling.steps_per_epoch
        return np.random.default_rng(seed).integers(bins, size=self._num_examples, dtype=np.int32)

    def _pass(self, number):
        """Returns the examples ordered by their bin, and where the bins begin and end."""
        if self._current is None or self._current[0] != number:
            slot = self._slots.setdefault(number, len(self._slots))
            if slot >= len(self._seeds):
                raise PrivacyError(
                    f"More than the {len(self._seeds)} passes were asked for that the shape of the "
                    "batches was made for. Call fit again for further epochs."
                )
            bins = self._throw(self._seeds[slot])
            order = np.argsort(bins, kind="stable")
            ends = np.searchsorted(bins[order], np.arange(self.sampling.steps_per_epoch + 1))
            self._current = (number, order, ends)
        return self._current[1:]
