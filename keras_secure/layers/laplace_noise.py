"""Additive Laplace noise."""

import keras

from keras_secure.layers.random_noise import RandomNoise
from keras_secure.registration import component


@component("layers")
class LaplaceNoise(RandomNoise):
    """Adds noise drawn from a Laplace distribution to every element.

    The density is exp(-|z| / scale) / (2 scale): variance 2 scale^2, with heavier tails than a
    Gaussian of the same variance. It is the noise of smoothing against L1 perturbations. For a
    differential privacy guarantee use `keras_secure.optimizers.DPOptimizer`: floating point noise
    added by a layer is not accounted for.

    Args:
        scale: The distribution's scale, a float of at least 0, in units of the inputs. The
            standard deviation is scale times the square root of 2.
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

    >>> layer = LaplaceNoise(0.05, active="always", bounds=(0, 1), seed=1)
    >>> noisy = layer(keras.ops.full((2, 3), 0.5))
    >>> bool(keras.ops.all((noisy >= 0) & (noisy <= 1)))
    True

    Reference:
        Teng, Lee and Yuan 2020, l1 Adversarial Robustness Certificates: a Randomized Smoothing
        Approach.
    """

    def __init__(self, scale, active="training", bounds=None, seed=None, **kwargs):
        super().__init__(active=active, bounds=bounds, seed=seed, **kwargs)
        self.scale = self._checked_scale("scale", scale)

    def draw(self, shape, dtype):
        """Returns Laplace noise of the given shape and dtype."""
        uniform = keras.random.uniform((2, *shape), dtype=dtype, seed=self.seed_generator)
        # The inverse CDF of the exponential distribution, -log(1 - u), is finite for every u in
        # [0, 1), while the inverse CDF of the Laplace distribution itself is infinite at u = 0,
        # which is drawn. The difference of two exponentials is Laplace, and exactly symmetric.
        first, second = keras.ops.unstack(-keras.ops.log1p(-uniform), axis=0)
        return self.scale * (first - second)

    def get_config(self):
        """The arguments that rebuild this layer."""
        return {**super().get_config(), "scale": self.scale}
