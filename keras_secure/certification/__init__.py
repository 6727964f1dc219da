"""Certification: proofs that no input within a radius is answered otherwise."""

from keras_secure.certification.binomial_bounds import anytime_lower_bound
from keras_secure.certification.certificate import Certificate, Estimate
from keras_secure.certification.interval_bounds import interval_bounds
from keras_secure.certification.interval_certifier import IntervalCertifier
from keras_secure.certification.interval_rules import register_interval_rule
from keras_secure.certification.randomized_smoothing import RandomizedSmoothing

__all__ = [
    "Certificate",
    "Estimate",
    "IntervalCertifier",
    "RandomizedSmoothing",
    "anytime_lower_bound",
    "interval_bounds",
    "register_interval_rule",
]
