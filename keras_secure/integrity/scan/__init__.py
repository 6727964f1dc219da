"""Tells whether opening a model file is safe, without opening it, Keras or TensorFlow.

`scan` runs the inspections of this package in a process of its own, where hostile bytes can do no
more than to end it.
"""

from keras_secure.integrity.scan.limits import ScanLimits
from keras_secure.integrity.scan.report import ScanReport
from keras_secure.integrity.scan.rules import RULES, Rule
from keras_secure.integrity.scan.run import scan

__all__ = ["RULES", "Rule", "ScanLimits", "ScanReport", "scan"]
