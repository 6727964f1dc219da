"""From inputs to perturbed inputs, and how well a model withstands them."""

from keras_secure.attacks.apgd import APGD
from keras_secure.attacks.attack import Attack
from keras_secure.attacks.auto_attack import AutoAttack
from keras_secure.attacks.carlini_wagner_l2 import CarliniWagnerL2
from keras_secure.attacks.deepfool import DeepFool
from keras_secure.attacks.elastic_net import ElasticNet
from keras_secure.attacks.evaluate import evaluate
from keras_secure.attacks.expectation import Expectation
from keras_secure.attacks.fab import FAB
from keras_secure.attacks.fgm import FGM
from keras_secure.attacks.fgsm import FGSM
from keras_secure.attacks.gradient_attack import GradientAttack
from keras_secure.attacks.hop_skip_jump import HopSkipJump
from keras_secure.attacks.iterative_attack import IterativeAttack
from keras_secure.attacks.mifgsm import MIFGSM
from keras_secure.attacks.pgd import PGD
from keras_secure.attacks.problem import Problem
from keras_secure.attacks.random_noise import RandomNoise
from keras_secure.attacks.replace_layers import replace_layers
from keras_secure.attacks.report import RobustnessReport
from keras_secure.attacks.result import AttackResult, Candidates
from keras_secure.attacks.spatial import Spatial
from keras_secure.attacks.square import Square
from keras_secure.attacks.trust.report import TrustReport
from keras_secure.attacks.trust_check import trust_check
from keras_secure.intervals import proportion_interval
from keras_secure.logits import classification_logits

__all__ = [
    "APGD",
    "FAB",
    "FGM",
    "FGSM",
    "MIFGSM",
    "PGD",
    "Attack",
    "AttackResult",
    "AutoAttack",
    "Candidates",
    "CarliniWagnerL2",
    "DeepFool",
    "ElasticNet",
    "Expectation",
    "GradientAttack",
    "HopSkipJump",
    "IterativeAttack",
    "Problem",
    "RandomNoise",
    "RobustnessReport",
    "Spatial",
    "Square",
    "TrustReport",
    "classification_logits",
    "evaluate",
    "proportion_interval",
    "replace_layers",
    "trust_check",
]
