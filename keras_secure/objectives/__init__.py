"""Objectives: what a training step minimizes, one loss per example."""

from keras_secure.objectives.adversarial_training import AdversarialTraining
from keras_secure.objectives.objective import Objective, Standard
from keras_secure.objectives.per_example_loss import PerExampleLoss
from keras_secure.objectives.trades import TRADES

__all__ = ["TRADES", "AdversarialTraining", "Objective", "PerExampleLoss", "Standard"]
