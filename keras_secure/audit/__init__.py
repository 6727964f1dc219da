"""Measurements become findings, and findings become a report that a person can act on."""

from keras_secure.audit.judge import judge
from keras_secure.audit.losses import membership_losses
from keras_secure.audit.membership import (
    MembershipReport,
    OperatingPoint,
    threshold_membership_attack,
)
from keras_secure.audit.report import AuditReport
from keras_secure.audit.robustness import robustness_section
from keras_secure.audit.summary import summary_table
from keras_secure.audit.write import write_report

__all__ = [
    "AuditReport",
    "MembershipReport",
    "OperatingPoint",
    "judge",
    "membership_losses",
    "robustness_section",
    "summary_table",
    "threshold_membership_attack",
    "write_report",
]
