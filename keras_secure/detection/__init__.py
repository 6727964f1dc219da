"""Finds what should not be there: adversarial inputs, poisoned examples, backdoors."""

from keras_secure.detection.backdoor_report import BackdoorReport
from keras_secure.detection.neural_cleanse import NeuralCleanse
from keras_secure.detection.poison_report import InspectedClass, PoisonReport
from keras_secure.detection.spectral_signatures import SpectralSignatures

__all__ = [
    "BackdoorReport",
    "InspectedClass",
    "NeuralCleanse",
    "PoisonReport",
    "SpectralSignatures",
]
