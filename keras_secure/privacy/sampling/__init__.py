"""How examples come into batches: one file per kind of sampling."""

from keras_secure.privacy.sampling.poisson import (
    PoissonBatches,
    PoissonSampling,
    physical_batch_size,
)
from keras_secure.privacy.sampling.sampling import Sampling
from keras_secure.privacy.sampling.unstated import UnstatedSampling

__all__ = [
    "PoissonBatches",
    "PoissonSampling",
    "Sampling",
    "UnstatedSampling",
    "physical_batch_size",
]
