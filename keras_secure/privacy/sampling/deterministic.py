"""Passes over the data in a fixed order: the plan, and the batches that obey it."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keras_secure.errors import InputError, PrivacyError
from keras_secure.privacy.sampling.batches import Batches
from keras_secure.privacy.sampling.sampling import Sampling


@dataclass(frozen=True)
class DeterministicPasses(Sampling):
    """The same batches in the same order, pass after pass, every example in one batch of a pass.

    Nothing is amplified, but two batches with the same example lie `steps_per_epoch` steps apart,
    so in a phase of n steps an example takes part at most `k = ceil(n / steps_per_epoch)` times and
    the phase costs what one Gaussian mechanism with noise `noise_multiplier / sqrt(k)` costs.
    Phases count for themselves: two of one and a half passes each cost four passes, not three.
    Neighbouring data sets differ in one example replaced by an empty one.

    Args:
        steps_per_epoch: Steps of one pass.
        bands: Steps over which noise is correlated (`DPOptimizer(bands=...)`); 1 for independent
            noise. With banded columns of norm one the cost is the same, as long as `bands` is at
            most `steps_per_epoch`: the columns of one example's steps then do not overlap.

    Raises:
        InputError: if `steps_per_epoch` or `bands` is no positive int.
        PrivacyError: if `bands` is larger than `steps_per_epoch`.

    Example:

    >>> passes = DeterministicPasses(steps_per_epoch=10)
    >>> passes.participations(15), passes.participations(20)
    (2, 2)

    Reference: Choquette-Choo et al. 2023, (Amplified) Banded Matrix Factorization, theorem 2 and
    section 3 (arXiv 2306.08153).
    """

    kind: ClassVar[str] = "deterministic"
    counts_passes: ClassVar[bool] = True
    steps_per_epoch: int
    bands: int = 1

    def __post_init__(self):
        for name in ("steps_per_epoch", "bands"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} is {value!r}; it must be a positive int.")
        if self.bands > self.steps_per_epoch:
            raise PrivacyError(
                f"bands={self.bands} is larger than the {self.steps_per_epoch} steps of a pass: "
                "noise of two uses of one example would be correlated, and its sensitivity is not "
                f"covered. Take at most {self.steps_per_epoch} bands, or smaller batches."
            )

    def participations(self, steps):
        """Returns how often an example takes part in `steps` consecutive steps, at most."""
        return math.ceil(steps / self.steps_per_epoch)

    def loss_distribution(self, noise_multiplier, steps):
        """See `Sampling`."""
        from dp_accounting.pld import privacy_loss_distribution as pld

        return pld.from_gaussian_mechanism(noise_multiplier / math.sqrt(self.participations(steps)))

    def group_loss_distribution(self, noise_multiplier, steps, group_size):
        """See `Sampling`: all of them may be in the same batches, and point the same way."""
        return self.loss_distribution(noise_multiplier / group_size, steps)

    def event(self, noise_multiplier, steps):
        """See `Sampling`."""
        import dp_accounting

        return dp_accounting.GaussianDpEvent(
            noise_multiplier / math.sqrt(self.participations(steps))
        )


class DeterministicBatches(Batches):
    """An endless stream of the same batches, pass after pass.

    The last batch of a pass is padded to the size of the others.

    Args:
        examples: See `Batches`.
        num_examples: Number of examples.
        batch_size: Examples of a batch.
        shuffle: Whether the fixed order is a random one, drawn once, or that of the data.
        seed: None or an int, for the random order.

    Example:

    >>> import numpy as np
    >>> batches = DeterministicBatches({"x": np.arange(5)}, 5, 2, shuffle=False)
    >>> stream = iter(batches)
    >>> [next(stream)["x"].tolist() for _ in range(4)]
    [[0, 1], [2, 3], [4, 0], [0, 1]]
    """

    def __init__(self, examples, num_examples, batch_size, shuffle=True, seed=None):
        super().__init__(examples, batch_size)
        self.sampling = DeterministicPasses(math.ceil(num_examples / batch_size))
        self._order = np.arange(num_examples)
        if shuffle:
            np.random.default_rng(seed).shuffle(self._order)

    def draws(self, position):
        """See `Batches`."""
        while True:
            start = position % self.sampling.steps_per_epoch * self.num_rows
            yield self._order[start : start + self.num_rows]
            position += 1
