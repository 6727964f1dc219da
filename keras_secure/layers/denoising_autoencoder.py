"""A network that takes noise out of inputs."""

import math

import keras

from keras_secure.arguments import check_channels_last, is_integer, is_number
from keras_secure.errors import InputError
from keras_secure.layers.bounds import checked_bounds
from keras_secure.layers.gaussian_noise import GaussianNoise
from keras_secure.registration import component


@component("layers")
class DenoisingAutoencoder(keras.Model):
    """Learns to give back clean inputs for noisy or attacked ones, and then purifies them.

    A model of its own that is trained through `compile` and `fit` and then stands in front of a
    classifier: `keras.Sequential([purifier, classifier])`. It makes attacks that do not know it
    fail, and is a hurdle, not a defence: it is differentiable, and attacks on purifier and
    classifier together go through both (Carlini & Wagner 2017, arXiv 1711.08478). Fine-tuning the
    two together on attacked inputs is adversarial training, which is a defence.

    Images (three axes) go through convolutions and keep their size, all else through dense layers.
    The network gives what is to be added to its input, so that a new one begins near the identity.

    Args:
        hidden: Filters of the convolutions, or units of the dense layers, between input and output;
            a sequence of ints of at least 1. Defaults to `(32, 32)`.
        kernel_size: Int, height and width of the convolutions. Defaults to 3.
        stddev: Standard deviation of the Gaussian noise that is added in training, in units of the
            inputs; then `fit(x, x)` is enough. Defaults to 0: fit on `(x_adv, x)` or on noise of
            your own.
        bounds: Pair of floats (low, high) that outputs are clipped to except in training, or None.
            Clipping passes gradients on. Defaults to `(0.0, 1.0)`.
        seed: `None` (the default), or an int that makes the noise reproducible.
        **kwargs: Keyword arguments of `keras.Model`.

    Call arguments:
        inputs: Floating point tensor of shape (batch, ..., channels).
        training: Whether the call is a training call. Defaults to False.

    Returns:
        A tensor of the same shape.

    Raises:
        InputError: If an argument is out of its range.

    Example:

    >>> purifier = DenoisingAutoencoder(hidden=(8,), stddev=0.2)
    >>> purifier.compile("adam", loss="mse")
    >>> x = keras.random.uniform((16, 6))
    >>> _ = purifier.fit(x, x, verbose=0)
    >>> guarded = keras.Sequential([purifier, keras.layers.Dense(3)])
    >>> tuple(guarded(x).shape)
    (16, 3)

    Reference:
        Meng & Chen 2017, MagNet, arXiv 1705.09064, section 4.3 (the reformer); Vincent et al. 2008,
        Extracting and composing robust features with denoising autoencoders, ICML.
    """

    def __init__(
        self,
        hidden=(32, 32),
        kernel_size=3,
        stddev=0.0,
        bounds=(0.0, 1.0),
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if (
            not isinstance(hidden, (list, tuple))
            or not hidden
            or not all(is_integer(width) and width >= 1 for width in hidden)
        ):
            raise InputError(
                f"DenoisingAutoencoder got hidden={hidden!r}; expected a sequence of ints of at "
                "least 1, the filters or units of each hidden layer."
            )
        if not is_integer(kernel_size) or kernel_size < 1:
            raise InputError(
                f"DenoisingAutoencoder got kernel_size={kernel_size!r}; expected an int of at "
                "least 1."
            )
        if not is_number(stddev) or not 0 <= stddev < float("inf"):
            raise InputError(
                f"DenoisingAutoencoder got stddev={stddev!r}; expected a finite number of at least "
                "0, in units of the inputs."
            )
        self.hidden = tuple(int(width) for width in hidden)
        self.kernel_size, self.stddev, self.seed = int(kernel_size), float(stddev), seed
        self.bounds = None if bounds is None else checked_bounds("DenoisingAutoencoder", bounds)
        self.supports_masking = True
        self.noise = GaussianNoise(self.stddev, seed=seed, dtype=self.dtype_policy)
        self.steps: list[keras.layers.Layer] = []

    def build(self, input_shape):
        """Makes the layers for inputs of this shape."""
        if not self.steps:
            images = len(input_shape) == 4
            if images:
                check_channels_last(
                    f"DenoisingAutoencoder {self.name!r}", keras.config.image_data_format()
                )
            if None in (input_shape[-1:] if images else input_shape[1:]):
                raise InputError(
                    f"DenoisingAutoencoder {self.name!r} got inputs of shape {tuple(input_shape)}; "
                    "their last axis must have a known size, and all axes unless they are images."
                )
            # Small weights: at first next to nothing is added to the input.
            small = keras.initializers.RandomNormal(stddev=1e-2, seed=self.seed)
            steps = [self._step(width, images, activation="relu") for width in self.hidden]
            if images:
                steps.append(self._step(input_shape[-1], images, kernel_initializer=small))
            else:
                steps.insert(0, keras.layers.Flatten(dtype=self.dtype_policy))
                values = math.prod(input_shape[1:])
                steps.append(self._step(values, images, kernel_initializer=small))
                shape = tuple(input_shape[1:])
                steps.append(keras.layers.Reshape(shape, dtype=self.dtype_policy))
            shape = tuple(input_shape)
            for step in steps:
                step.build(shape)
                shape = step.compute_output_shape(shape)
            self.steps = steps
        self.built = True

    def call(self, inputs, training=False):
        """Purifies `inputs`; see the class."""
        noisy = self.noise(inputs, training=training)
        added = noisy
        for step in self.steps:
            added = step(added)
        purified = noisy + added
        if self.bounds is not None and not training:
            # A value cut off would have no gradient, which hides the way through from attacks
            # without closing it; so it keeps the gradient that it had before.
            clipped = keras.ops.stop_gradient(keras.ops.clip(purified, *self.bounds))
            purified = clipped + (purified - keras.ops.stop_gradient(purified))
        return purified

    def compute_output_shape(self, input_shape):
        """The shape of the inputs."""
        return input_shape

    def get_config(self):
        """The arguments that rebuild this model."""
        return {
            **super().get_config(),
            "hidden": self.hidden,
            "kernel_size": self.kernel_size,
            "stddev": self.stddev,
            "bounds": self.bounds,
            "seed": self.seed,
        }

    def _step(self, width, images, **options):
        options["dtype"] = self.dtype_policy
        if not images:
            return keras.layers.Dense(width, **options)
        return keras.layers.Conv2D(
            width, self.kernel_size, padding="same", data_format="channels_last", **options
        )
