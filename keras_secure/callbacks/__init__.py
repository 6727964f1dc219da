"""Callbacks: when something is measured or changed during `fit`."""

from keras_secure.callbacks.catastrophic_overfitting_guard import CatastrophicOverfittingGuard
from keras_secure.callbacks.epsilon_curriculum import EpsilonCurriculum
from keras_secure.callbacks.gradient_clipping import GradientClipping
from keras_secure.callbacks.hold_zeros import HoldZeros
from keras_secure.callbacks.membership_inference import MembershipInference
from keras_secure.callbacks.privacy_audit import PrivacyAudit
from keras_secure.callbacks.privacy_budget import PrivacyBudget
from keras_secure.callbacks.privacy_journal import PrivacyJournal
from keras_secure.callbacks.private_checkpoint import PrivateCheckpoint
from keras_secure.callbacks.pruning import Pruning
from keras_secure.callbacks.robustness_evaluation import RobustnessEvaluation
from keras_secure.callbacks.secure_checkpoint import SecureCheckpoint
from keras_secure.callbacks.trigger_monitor import TriggerMonitor
from keras_secure.callbacks.watermark_monitor import WatermarkMonitor
from keras_secure.callbacks.weight_integrity import WeightIntegrity

__all__ = [
    "CatastrophicOverfittingGuard",
    "EpsilonCurriculum",
    "GradientClipping",
    "HoldZeros",
    "MembershipInference",
    "PrivacyAudit",
    "PrivacyBudget",
    "PrivacyJournal",
    "PrivateCheckpoint",
    "Pruning",
    "RobustnessEvaluation",
    "SecureCheckpoint",
    "TriggerMonitor",
    "WatermarkMonitor",
    "WeightIntegrity",
]
