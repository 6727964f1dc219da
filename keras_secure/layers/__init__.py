"""Layers that go into a model: noise, squeezing, and guards for what comes in and goes out."""

from keras_secure.layers.bpda import BPDA
from keras_secure.layers.denoising_autoencoder import DenoisingAutoencoder
from keras_secure.layers.ensemble import Ensemble
from keras_secure.layers.feature_squeezing import FeatureSqueezing
from keras_secure.layers.gaussian_noise import GaussianNoise
from keras_secure.layers.input_guard import InputGuard
from keras_secure.layers.jpeg_compression import JPEGCompression
from keras_secure.layers.laplace_noise import LaplaceNoise
from keras_secure.layers.median_smoothing import MedianSmoothing
from keras_secure.layers.output_guard import OutputGuard
from keras_secure.layers.random_resize_and_pad import RandomResizeAndPad
from keras_secure.layers.uniform_noise import UniformNoise

__all__ = [
    "BPDA",
    "DenoisingAutoencoder",
    "Ensemble",
    "FeatureSqueezing",
    "GaussianNoise",
    "InputGuard",
    "JPEGCompression",
    "LaplaceNoise",
    "MedianSmoothing",
    "OutputGuard",
    "RandomResizeAndPad",
    "UniformNoise",
]
