"""Additive Gaussian noise."""

import keras

from keras_secure.layers.random_noise import RandomNoise
from keras_secure.registration import component


@component("layers")
class GaussianNoise(RandomNoise):
    """Adds noise drawn from a normal distribution to every element.

    `keras.layers.GaussianNoise` acts in training only and allows a standard deviation of at most 1.
    This layer can act in training (augmentation), at inference (a randomized model, as randomized
    smoothing votes over) or always; the two classes have different registered names and can stand
    in one model. The layer is the randomness, not the certificate: a single noisy prediction
    guarantees nothing, and attacks on a randomized model must average over its noise (expectation
    over transformation, Athalye et al. 2018, arXiv 1802.00420) before they say anything about it.

    Args:
        stddev: Standard deviation of the noise, a float of at least 0, in units of the inputs.
        active: `"training"` (the default), `"inference"` or `"always"`: the calls that add noise.
            In all other calls the layer is exactly the identity.
        bounds: `None` (the default), or a pair of floats (low, high): noisy values are clipped to
            it. Clipping changes the distribution near the ends of the range.
        seed: `None` (the default), or an int that makes the sequence of draws reproducible.
        **kwargs: Keyword arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Floating point tensor of any shape.
        training: Whether the call is a training call. Defaults to False.

    Returns:
        A tensor of the same shape and dtype.

    Raises:
        InputError: If an argument is out of its range, or if the layer is called on integers.

    Example:

    >>> layer = GaussianNoise(0.1, active="always", seed=1)
    >>> noisy = layer(keras.ops.zeros((2, 3)))
    >>> tuple(noisy.shape), bool(keras.ops.all(noisy != 0))
    ((2, 3), True)

    Reference:
        Cohen, Rosenfeld and Kolter 2019, Certified Adversarial Robustness via Randomized
        Smoothing, arXiv 1902.02918, section 3.
    """

    def __init__(self, stddev, active="training", bounds=None, seed=None, **kwargs):
        super().__init__(active=active, bounds=bounds, seed=seed, **kwargs)
        self.stddev = self._checked_scale("stddev", stddev)

    def draw(self, shape, dtype):
        """Returns normal noise of the given shape and dtype."""
        return keras.random.normal(shape, stddev=self.stddev, dtype=dtype, seed=self.seed_generator)

    def get_config(self):
        """The arguments that rebuild this layer."""
        return {**super().get_config(), "stddev": self.stddev}
