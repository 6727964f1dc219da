"""Finds what should not be there: adversarial inputs, poisoned examples, backdoors."""

from keras_secure.detection.activation_clustering import ActivationClustering
from keras_secure.detection.backdoor_report import BackdoorReport
from keras_secure.detection.detected_model import DetectedModel
from keras_secure.detection.feature_squeezing_detector import FeatureSqueezingDetector
from keras_secure.detection.features import layer_features
from keras_secure.detection.input_detector import Calibration
from keras_secure.detection.mahalanobis_detector import MahalanobisDetector
from keras_secure.detection.neural_cleanse import NeuralCleanse
from keras_secure.detection.poison_report import InspectedClass, PoisonReport
from keras_secure.detection.spectral_signatures import SpectralSignatures

__all__ = [
    "ActivationClustering",
    "BackdoorReport",
    "Calibration",
    "DetectedModel",
    "FeatureSqueezingDetector",
    "InspectedClass",
    "MahalanobisDetector",
    "NeuralCleanse",
    "PoisonReport",
    "SpectralSignatures",
    "layer_features",
]
