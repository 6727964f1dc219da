"""Training: the wrapper that puts attack, objective, privacy and update into one step."""

from keras_secure.training.inner_model import inner_model
from keras_secure.training.ordinary_step import OrdinaryStep
from keras_secure.training.random_access import RandomAccess
from keras_secure.training.secure_model import SecureModel

__all__ = ["OrdinaryStep", "RandomAccess", "SecureModel", "inner_model"]
