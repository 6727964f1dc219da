"""How examples come into batches: one file per kind of sampling."""

from keras_secure.privacy.sampling.balls_in_bins import BallsInBinsBatches, BallsInBinsSampling
from keras_secure.privacy.sampling.batches import Batches
from keras_secure.privacy.sampling.deterministic import DeterministicBatches, DeterministicPasses
from keras_secure.privacy.sampling.poisson import (
    PoissonBatches,
    PoissonSampling,
    physical_batch_size,
)
from keras_secure.privacy.sampling.sampling import Sampling
from keras_secure.privacy.sampling.unstated import UnstatedSampling

__all__ = [
    "BallsInBinsBatches",
    "BallsInBinsSampling",
    "Batches",
    "DeterministicBatches",
    "DeterministicPasses",
    "PoissonBatches",
    "PoissonSampling",
    "Sampling",
    "UnstatedSampling",
    "physical_batch_size",
]
