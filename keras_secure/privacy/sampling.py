"""How examples come into a batch: what the accountant may assume, and the batches that obey it."""

import math
import operator
from dataclasses import asdict, dataclass

import numpy as np
from keras import tree

from keras_secure.errors import InputError

# Standard deviations of the batch size that fit into the static shape. A draw beyond is truncated,
# and the accountant knows: at five its cost in epsilon is below one part in a thousand.
_HEADROOM = 5.0


@dataclass(frozen=True)
class PoissonSampling:
    """Every example enters every batch independently with the same probability.

    Args:
        sampling_probability: Between 0 and 1.
        dataset_size: Number of examples.
        physical_batch_size: Rows of the static batch; larger draws are cut at random to this size
            and accounted as such. None where nothing is cut.
    """

    sampling_probability: float
    dataset_size: int
    physical_batch_size: int | None = None

    def __post_init__(self):
        if not 0 < self.sampling_probability <= 1:
            raise InputError(
                f"sampling_probability is {self.sampling_probability}; it must lie in (0, 1]."
            )

    def get_config(self):
        """Returns the arguments as a dictionary."""
        return asdict(self)


@dataclass(frozen=True)
class UnstatedSampling:
    """Nothing is known of how batches were formed, so sampling amplifies nothing.

    Every step counts as if it had seen every example: correct for any data pipeline in which an
    example occurs at most once in a batch. Neighbouring data sets differ in one example replaced by
    an empty one.
    """


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
    return min(dataset_size, -(-size // 8) * 8)


class PoissonBatches:
    """An endless stream of Poisson-sampled batches of static shape.

    Args:
        arrays: Nested numpy arrays with a common first axis.
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

    def __init__(self, arrays, sampling, seed=None):
        self.arrays, self.sampling = arrays, sampling
        self.generator = np.random.default_rng(seed)

    def draw(self):
        """Returns the indices of one batch, in random order, before padding."""
        plan = self.sampling
        size = self.generator.binomial(plan.dataset_size, plan.sampling_probability)
        # A uniformly random subset of binomial size is a Poisson sample. Cutting it after the
        # shuffle keeps a uniformly random part.
        chosen = self.generator.choice(plan.dataset_size, size, replace=False)
        return chosen[: plan.physical_batch_size]

    def __iter__(self):
        rows = self.sampling.physical_batch_size
        while True:
            chosen = self.draw()
            padded = np.zeros(rows, dtype=np.int64)
            padded[: len(chosen)] = chosen
            batch = dict(tree.map_structure(operator.itemgetter(padded), self.arrays))
            batch["mask"] = np.arange(rows) < len(chosen)
            yield batch
