"""Batches of which nothing is known."""

import math
from dataclasses import dataclass
from typing import ClassVar

from keras_secure.privacy.sampling.sampling import Sampling


@dataclass(frozen=True)
class UnstatedSampling(Sampling):
    """Nothing is known of how batches were formed, so sampling amplifies nothing.

    Every step counts as if it had seen every example: correct for any data pipeline in which an
    example occurs at most once in a batch. Neighbouring data sets differ in one example replaced by
    an empty one.
    """

    kind: ClassVar[str] = "unstated"

    def loss_distribution(self, noise_multiplier, steps):
        """See `Sampling`."""
        from dp_accounting.pld import privacy_loss_distribution as pld

        return pld.from_gaussian_mechanism(noise_multiplier / math.sqrt(steps))

    def group_loss_distribution(self, noise_multiplier, steps, group_size):
        """See `Sampling`: all of them may be in the same batches, and point the same way."""
        return self.loss_distribution(noise_multiplier / group_size, steps)

    def event(self, noise_multiplier, steps):
        """See `Sampling`."""
        import dp_accounting

        return dp_accounting.SelfComposedDpEvent(
            dp_accounting.GaussianDpEvent(noise_multiplier), steps
        )
