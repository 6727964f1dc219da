"""Differential privacy: clipping by example, sampling, accounting and what must be refused."""

from keras_secure.privacy.accounting import calibrate_noise_multiplier, epsilon, max_steps
from keras_secure.privacy.clipped_sum import ClippedSum
from keras_secure.privacy.clipping import PerExampleClipping
from keras_secure.privacy.compatibility_report import CompatibilityReport
from keras_secure.privacy.contributions import Contribution, Materialized, OuterProducts, Rows
from keras_secure.privacy.ledger import Ledger, Phase
from keras_secure.privacy.make_compatible import make_compatible
from keras_secure.privacy.model_check import check_model
from keras_secure.privacy.rules import register_rule
from keras_secure.privacy.sampling import (
    PoissonBatches,
    PoissonSampling,
    Sampling,
    UnstatedSampling,
    physical_batch_size,
)

__all__ = [
    "ClippedSum",
    "CompatibilityReport",
    "Contribution",
    "Ledger",
    "Materialized",
    "OuterProducts",
    "PerExampleClipping",
    "Phase",
    "PoissonBatches",
    "PoissonSampling",
    "Rows",
    "Sampling",
    "UnstatedSampling",
    "calibrate_noise_multiplier",
    "check_model",
    "epsilon",
    "make_compatible",
    "max_steps",
    "physical_batch_size",
    "register_rule",
]
