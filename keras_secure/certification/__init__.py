"""Certification: proofs that no input within a radius is answered otherwise."""

from keras_secure.certification.certificate import Certificate, Estimate
from keras_secure.certification.interval_bounds import interval_bounds
from keras_secure.certification.interval_certifier import IntervalCertifier
from keras_secure.certification.interval_rules import register_interval_rule

__all__ = [
    "Certificate",
    "Estimate",
    "IntervalCertifier",
    "interval_bounds",
    "register_interval_rule",
]
