"""Differential privacy: clipping by example, sampling, accounting and what must be refused."""

from keras_secure.privacy.accounting import delta, epsilon, max_steps, privacy_curve
from keras_secure.privacy.calibration import (
    calibrate_batch_size,
    calibrate_noise_multiplier,
    calibrate_steps,
)
from keras_secure.privacy.clipped_sum import ClippedSum
from keras_secure.privacy.clipping import PerExampleClipping
from keras_secure.privacy.clipping_modes import (
    AdaptiveClipping,
    AutomaticClipping,
    ClippingMode,
    FlatClipping,
    PerLayerClipping,
)
from keras_secure.privacy.compatibility_report import CompatibilityReport
from keras_secure.privacy.contributions import Contribution, Materialized, OuterProducts, Rows
from keras_secure.privacy.group_privacy import bound_contributions
from keras_secure.privacy.journal import Journal
from keras_secure.privacy.ledger import Ledger, Phase
from keras_secure.privacy.ledger_key import LedgerKey
from keras_secure.privacy.make_compatible import make_compatible
from keras_secure.privacy.matrix_factorization import banded_coefficients, prefix_error
from keras_secure.privacy.model_check import check_model
from keras_secure.privacy.rules import register_rule
from keras_secure.privacy.sampling import (
    BallsInBinsBatches,
    BallsInBinsSampling,
    DeterministicBatches,
    DeterministicPasses,
    PoissonBatches,
    PoissonSampling,
    Sampling,
    UnstatedSampling,
    physical_batch_size,
)
from keras_secure.privacy.statement import privacy_statement
from keras_secure.privacy.trade_off import max_true_positive_rate

__all__ = [
    "AdaptiveClipping",
    "AutomaticClipping",
    "BallsInBinsBatches",
    "BallsInBinsSampling",
    "ClippedSum",
    "ClippingMode",
    "CompatibilityReport",
    "Contribution",
    "DeterministicBatches",
    "DeterministicPasses",
    "FlatClipping",
    "Journal",
    "Ledger",
    "LedgerKey",
    "Materialized",
    "OuterProducts",
    "PerExampleClipping",
    "PerLayerClipping",
    "Phase",
    "PoissonBatches",
    "PoissonSampling",
    "Rows",
    "Sampling",
    "UnstatedSampling",
    "banded_coefficients",
    "bound_contributions",
    "calibrate_batch_size",
    "calibrate_noise_multiplier",
    "calibrate_steps",
    "check_model",
    "delta",
    "epsilon",
    "make_compatible",
    "max_steps",
    "max_true_positive_rate",
    "physical_batch_size",
    "prefix_error",
    "privacy_curve",
    "privacy_statement",
    "register_rule",
]
