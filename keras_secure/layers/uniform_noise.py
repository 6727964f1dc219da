"""Additive uniform noise."""

import keras

from keras_secure.layers.random_noise import RandomNoise
from keras_secure.registration import component


@component("layers")
class UniformNoise(RandomNoise):
    """Adds noise drawn uniformly from [-amplitude, amplitude) to every element.

    No element moves further than `amplitude`, so in training this is the random start of an linf
    attack without the attack, and at inference it randomizes a model with a known largest change.
    It is a hurdle for an attacker and no defence by itself: attacks that average over the noise
    see through it (Athalye et al. 2018, arXiv 1802.00420).

    Args:
        amplitude: The largest change of an element, a float of at least 0, in units of the inputs.
            The standard deviation is amplitude over the square root of 3.
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

    >>> layer = UniformNoise(0.1, seed=1)
    >>> noisy = layer(keras.ops.zeros((2, 3)), training=True)
    >>> bool(keras.ops.all(keras.ops.abs(noisy) <= 0.1))
    True
    """

    def __init__(self, amplitude, active="training", bounds=None, seed=None, **kwargs):
        super().__init__(active=active, bounds=bounds, seed=seed, **kwargs)
        self.amplitude = self._checked_scale("amplitude", amplitude)

    def draw(self, shape, dtype):
        """Returns uniform noise of the given shape and dtype."""
        # Scaled afterwards, because a range of width 0 is not a range for every random generator.
        uniform = keras.random.uniform(shape, -1.0, 1.0, dtype=dtype, seed=self.seed_generator)
        return self.amplitude * uniform

    def get_config(self):
        """The arguments that rebuild this layer."""
        return {**super().get_config(), "amplitude": self.amplitude}
