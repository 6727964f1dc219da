"""Certification: proofs that no input within a radius is answered otherwise."""

from keras_secure.certification.certificate import Certificate, Estimate

__all__ = ["Certificate", "Estimate"]
