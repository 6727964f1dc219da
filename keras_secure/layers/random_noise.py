"""What the noise layers share: when they act, where they draw, how they stay in range."""

import keras

from keras_secure.errors import InputError
from keras_secure.layers.bounds import checked_bounds

ACTIVE = ("training", "inference", "always")


class RandomNoise(keras.layers.Layer):
    """Base class of layers that add independent random noise to every element.

    A subclass writes `draw(shape, dtype)`; everything else is decided here. Noise is drawn and
    added in float32 (float64 under a float64 policy) and cast afterwards, so that a float16 policy
    changes the precision of the result, never the distribution of the noise.

    Args:
        active: `"training"`, `"inference"` or `"always"`: the calls that add noise. In all other
            calls the layer is exactly the identity, `bounds` included.
        bounds: `None`, or a pair of floats (low, high): noisy values are clipped to it.
        seed: `None`, or an int that makes the sequence of draws reproducible.
        **kwargs: Keyword arguments of `keras.layers.Layer`.

    Raises:
        InputError: If an argument is not one of the above, or if the layer is called on integers.
    """

    def __init__(self, active="training", bounds=None, seed=None, **kwargs):
        super().__init__(**kwargs)
        if active not in ACTIVE:
            raise InputError(
                f"{type(self).__name__} got active={active!r}; expected one of "
                f"{', '.join(map(repr, ACTIVE))}: the calls in which noise is added."
            )
        self.active = active
        self.bounds = None if bounds is None else checked_bounds(type(self).__name__, bounds)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def draw(self, shape, dtype):
        """Returns zero-mean noise of the given shape and dtype (written by each subclass)."""
        raise NotImplementedError

    def call(self, inputs, training=False):
        """Adds noise where `active` says so; see the class."""
        if self.active != "always" and bool(training) != (self.active == "training"):
            return inputs
        if not keras.backend.is_float_dtype(inputs.dtype):
            raise InputError(
                f"{type(self).__name__} {self.name!r} got inputs of dtype {inputs.dtype}; expected "
                "floating point numbers. Rescale or embed integer inputs before this layer."
            )
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        noisy = keras.ops.cast(inputs, dtype) + self.draw(keras.ops.shape(inputs), dtype)
        if self.bounds is not None:
            noisy = keras.ops.clip(noisy, *self.bounds)
        return keras.ops.cast(noisy, inputs.dtype)

    def compute_output_shape(self, input_shape):
        """The shape of the inputs."""
        return input_shape

    def get_config(self):
        """The arguments that rebuild this layer."""
        return {
            **super().get_config(),
            "active": self.active,
            "bounds": self.bounds,
            "seed": self.seed,
        }

    def _checked_scale(self, name, value):
        """Returns a standard deviation or the like as a float, or refuses it."""
        try:
            scale = float(value)
        except (TypeError, ValueError):
            scale = float("nan")
        if not 0.0 <= scale < float("inf"):
            raise InputError(
                f"{type(self).__name__} got {name}={value!r}; expected a finite number that is at "
                "least 0, in units of the inputs."
            )
        return scale
