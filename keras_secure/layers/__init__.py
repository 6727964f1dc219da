"""Layers that go into a model: noise, squeezing, and guards for what comes in and goes out."""

from keras_secure.layers.bpda import BPDA
from keras_secure.layers.feature_squeezing import FeatureSqueezing
from keras_secure.layers.gaussian_noise import GaussianNoise
from keras_secure.layers.input_guard import InputGuard
from keras_secure.layers.laplace_noise import LaplaceNoise
from keras_secure.layers.output_guard import OutputGuard
from keras_secure.layers.uniform_noise import UniformNoise

__all__ = [
    "BPDA",
    "FeatureSqueezing",
    "GaussianNoise",
    "InputGuard",
    "LaplaceNoise",
    "OutputGuard",
    "UniformNoise",
]
