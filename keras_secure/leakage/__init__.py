"""What a trained model gives away about who was in its training data."""

from keras_secure.leakage.canaries import mislabelled_canaries
from keras_secure.leakage.confidences import logit_confidences, membership_losses
from keras_secure.leakage.lira import lira, lira_from_scores
from keras_secure.leakage.one_run import OneRunAudit
from keras_secure.leakage.one_run_bound import one_run_epsilon, one_run_p_value
from keras_secure.leakage.one_run_report import Guesses, OneRunReport
from keras_secure.leakage.report import Contradiction, MembershipReport, OperatingPoint
from keras_secure.leakage.shadows import ShadowScores, train_shadows
from keras_secure.leakage.threshold import threshold_membership_attack

__all__ = [
    "Contradiction",
    "Guesses",
    "MembershipReport",
    "OneRunAudit",
    "OneRunReport",
    "OperatingPoint",
    "ShadowScores",
    "lira",
    "lira_from_scores",
    "logit_confidences",
    "membership_losses",
    "mislabelled_canaries",
    "one_run_epsilon",
    "one_run_p_value",
    "threshold_membership_attack",
    "train_shadows",
]
