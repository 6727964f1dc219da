"""Poisson sampling: the plan, and the batches that obey it."""

import functools
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keras_secure.errors import InputError, PrivacyError
from keras_secure.privacy.sampling.batches import Batches, multiple_of_eight
from keras_secure.privacy.sampling.gaussian_mixture import gaussian_mixture_loss
from keras_secure.privacy.sampling.sampling import Sampling

# Standard deviations of the batch size that fit into the static shape. A draw beyond is truncated,
# and the accountant knows: at five its cost in epsilon is below one part in a thousand.
_HEADROOM = 5.0


@dataclass(frozen=True)
class PoissonSampling(Sampling):
    """Every example enters every batch independently with the same probability.

    Args:
        sampling_probability: Between 0 and 1.
        dataset_size: Number of examples.
        physical_batch_size: Rows of the static batch; larger draws are cut at random to this size
            and accounted as such. None where nothing is cut.
    """

    kind: ClassVar[str] = "poisson"
    sampling_probability: float
    dataset_size: int
    physical_batch_size: int | None = None

    def __post_init__(self):
        if not 0 < self.sampling_probability <= 1:
            raise InputError(
                f"sampling_probability is {self.sampling_probability}; it must lie in (0, 1]."
            )

    def loss_distribution(self, noise_multiplier, steps):
        """See `Sampling`."""
        return _step_loss_distribution(self, noise_multiplier).self_compose(steps)

    def group_loss_distribution(self, noise_multiplier, steps, group_size):
        """See `Sampling`: how many of them enter a batch is binomial."""
        return _group_loss_distribution(self, noise_multiplier, group_size).self_compose(steps)

    def event(self, noise_multiplier, steps):
        """See `Sampling`."""
        import dp_accounting

        if self.physical_batch_size is not None:
            raise PrivacyError(
                "Renyi accounting does not know truncated Poisson batches; use accountant='pld'."
            )
        step = dp_accounting.PoissonSampledDpEvent(
            self.sampling_probability, dp_accounting.GaussianDpEvent(noise_multiplier)
        )
        return dp_accounting.SelfComposedDpEvent(step, steps)


@functools.lru_cache(maxsize=64)
def _step_loss_distribution(sampling, noise_multiplier):
    from dp_accounting.pld import privacy_loss_distribution as pld

    if sampling.physical_batch_size is None:
        return pld.from_gaussian_mechanism(
            noise_multiplier, sampling_prob=sampling.sampling_probability
        )
    return pld.from_truncated_subsampled_gaussian_mechanism(
        dataset_size=sampling.dataset_size,
        sampling_probability=sampling.sampling_probability,
        truncated_batch_size=sampling.physical_batch_size,
        noise_multiplier=noise_multiplier,
    )


@functools.lru_cache(maxsize=8)
def _group_loss_distribution(sampling, noise_multiplier, group_size):
    """One step's loss for the examples of a group, added or removed together.

    That j of them are drawn moves the sum by at most j clips: a mixture of Gaussians
    (Choquette-Choo et al. 2024, arXiv 2310.15526, corollary 4.7). Where the other examples leave
    too little room for all of the group, which does not depend on the group, each of the j may
    also push another one out: at most 2j clips. An observer who is told which of the two holds
    learns no less.
    """
    from scipy import stats

    drawn = np.arange(group_size + 1)
    chances = stats.binom.pmf(drawn, group_size, sampling.sampling_probability)
    drawn, chances = drawn[chances > 0], chances[chances > 0]
    chances = chances / chances.sum()

    def mixture(sensitivity):
        return gaussian_mixture_loss(noise_multiplier, sensitivity * drawn, chances)

    rows = sampling.physical_batch_size
    if rows is None:
        return mixture(1.0)
    full = stats.binom.sf(rows - group_size, sampling.dataset_size, sampling.sampling_probability)
    return mixture(1.0) if full == 0.0 else mixture(2.0).compute_mixture(mixture(1.0), full)


def physical_batch_size(dataset_size, expected_batch_size):
    """Returns the static batch size that holds all but about one in three million Poisson draws.

    Args:
        dataset_size: Number of examples.
        expected_batch_size: Mean size of a draw.

    Returns:
        int, a multiple of 8 where the data set allows it.

    Example:

    >>> physical_batch_size(60000, 256)
    336
    """
    probability = expected_batch_size / dataset_size
    spread = math.sqrt(expected_batch_size * max(0.0, 1.0 - probability))
    size = math.ceil(expected_batch_size + _HEADROOM * spread)
    return multiple_of_eight(size, dataset_size)


class PoissonBatches(Batches):
    """An endless stream of Poisson-sampled batches of static shape.

    Args:
        examples: See `Batches`.
        sampling: A `PoissonSampling` with `physical_batch_size` set.
        seed: None draws from the operating system's entropy; an int makes the batches repeatable
            and the training not private.

    Example:

    >>> import numpy as np
    >>> sampling = PoissonSampling(0.5, 10, physical_batch_size=10)
    >>> batch = next(iter(PoissonBatches({"x": np.arange(10)}, sampling, seed=0)))
    >>> batch["x"].shape, batch["mask"].shape
    ((10,), (10,))
    """

    def __init__(self, examples, sampling, seed=None):
        super().__init__(examples, sampling.physical_batch_size)
        self.sampling = sampling
        self.generator = np.random.default_rng(seed)

    def draw(self):
        """Returns the indices of one batch, in random order, before padding."""
        plan = self.sampling
        size = self.generator.binomial(plan.dataset_size, plan.sampling_probability)
        # A uniformly random subset of binomial size is a Poisson sample. Cutting it after the
        # shuffle keeps a uniformly random part.
        chosen = self.generator.choice(plan.dataset_size, size, replace=False)
        return chosen[: plan.physical_batch_size]

    def draws(self, position):
        """See `Batches`; every batch is drawn anew."""
        while True:
            yield self.draw()
