"""Objectives: what a training step minimizes, one loss per example."""

from keras_secure.objectives.adversarial_training import AdversarialTraining
from keras_secure.objectives.adversarial_weight_perturbation import AdversarialWeightPerturbation
from keras_secure.objectives.augmented import Augmented
from keras_secure.objectives.consistency import Consistency
from keras_secure.objectives.defensive_distillation import DefensiveDistillation
from keras_secure.objectives.free_adversarial_training import FreeAdversarialTraining
from keras_secure.objectives.gaussian_augmentation import GaussianAugmentation
from keras_secure.objectives.interval_bound_propagation import IntervalBoundPropagation
from keras_secure.objectives.mart import MART
from keras_secure.objectives.mixup import Mixup
from keras_secure.objectives.objective import Objective, Standard
from keras_secure.objectives.per_example_loss import PerExampleLoss
from keras_secure.objectives.robust_distillation import RobustDistillation
from keras_secure.objectives.trades import TRADES
from keras_secure.objectives.virtual_adversarial import VirtualAdversarialTraining

__all__ = [
    "MART",
    "TRADES",
    "AdversarialTraining",
    "AdversarialWeightPerturbation",
    "Augmented",
    "Consistency",
    "DefensiveDistillation",
    "FreeAdversarialTraining",
    "GaussianAugmentation",
    "IntervalBoundPropagation",
    "Mixup",
    "Objective",
    "PerExampleLoss",
    "RobustDistillation",
    "Standard",
    "VirtualAdversarialTraining",
]
