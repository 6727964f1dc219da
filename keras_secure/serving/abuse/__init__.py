"""Queries that are not what they seem: extraction, probing, drift; and marked answers."""

from keras_secure.serving.abuse.coverage import Coverage
from keras_secure.serving.abuse.dawn import DAWN, DawnReport
from keras_secure.serving.abuse.detector import Detector
from keras_secure.serving.abuse.distance_distribution import DistanceDistribution
from keras_secure.serving.abuse.drift import Drift
from keras_secure.serving.abuse.monitor import AbuseMonitor, standard_monitor
from keras_secure.serving.abuse.near_duplicates import NearDuplicates

__all__ = [
    "DAWN",
    "AbuseMonitor",
    "Coverage",
    "DawnReport",
    "Detector",
    "DistanceDistribution",
    "Drift",
    "NearDuplicates",
    "standard_monitor",
]
