"""Bit-depth reduction of inputs."""

import keras

from keras_secure.errors import InputError
from keras_secure.layers.bounds import checked_bounds
from keras_secure.registration import component

GRADIENTS = ("straight_through", "exact")


@component("layers")
class FeatureSqueezing(keras.layers.Layer):
    """Rounds inputs to a few levels, so that small changes of them often change nothing.

    Values are clipped to `bounds` and rounded to the nearest of 2^bit_depth evenly spaced levels.
    That removes many weak perturbations and is a hurdle, not a defence: an attacker who knows the
    layer crosses its rounding thresholds. Rounding has no useful gradient, which makes gradient
    attacks fail without making the model robust; the default gradient is therefore the
    straight-through estimator (backward pass differentiable approximation by the identity), with
    which attacks see through the layer and robustness is measured honestly.

    Args:
        bit_depth: Int from 1 to 16. 2^bit_depth levels are left.
        bounds: Pair of floats (low, high), the range of the inputs. Defaults to `(0.0, 1.0)`.
        gradient: `"straight_through"` (the default): the identity inside `bounds` and zero
            outside. `"exact"`: zero everywhere, as the derivative of rounding is.
        **kwargs: Keyword arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Floating point tensor of any shape. NaN stays NaN: see `InputGuard`.

    Returns:
        A tensor of the same shape and dtype.

    Raises:
        InputError: If an argument is out of its range.

    Example:

    >>> layer = FeatureSqueezing(bit_depth=1)
    >>> layer(keras.ops.array([[0.1, 0.4, 0.6, 0.9]])).numpy().tolist()
    [[0.0, 0.0, 1.0, 1.0]]

    Reference:
        Xu, Evans and Qi 2018, Feature Squeezing, arXiv 1704.01155, section III.A. The gradient:
        Athalye, Carlini and Wagner 2018, arXiv 1802.00420, section 4.1.
    """

    def __init__(self, bit_depth, bounds=(0.0, 1.0), gradient="straight_through", **kwargs):
        super().__init__(**kwargs)
        if isinstance(bit_depth, bool) or bit_depth not in range(1, 17):
            raise InputError(
                f"FeatureSqueezing got bit_depth={bit_depth!r}; expected an int from 1 to 16. "
                "Images with 256 levels have a bit depth of 8, so smaller values squeeze them."
            )
        if gradient not in GRADIENTS:
            raise InputError(
                f"FeatureSqueezing got gradient={gradient!r}; expected one of "
                f"{', '.join(map(repr, GRADIENTS))}."
            )
        self.bit_depth = int(bit_depth)
        self.bounds = checked_bounds("FeatureSqueezing", bounds)
        self.gradient = gradient
        self.supports_masking = True

    def call(self, inputs):
        """Rounds `inputs` to the nearest level; see the class."""
        ops = keras.ops
        low, high = self.bounds
        steps = 2**self.bit_depth - 1
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        clipped = ops.clip(ops.cast(inputs, dtype), low, high)
        # Level by level from `low`, and the top level as `high` itself: the ends stay exact.
        level = ops.round((clipped - low) / (high - low) * steps)
        squeezed = ops.where(level == steps, high, low + level * ((high - low) / steps))
        squeezed = ops.stop_gradient(squeezed)
        # Adding a difference that is exactly zero brings the gradient of `clipped` in without
        # moving a single level; the usual x + stop_gradient(squeezed - x) would round once more.
        passed = clipped - ops.stop_gradient(clipped)
        if self.gradient == "exact":
            passed = 0.0 * passed
        return ops.cast(squeezed + passed, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """The shape of the inputs."""
        return input_shape

    def get_config(self):
        """The arguments that rebuild this layer."""
        return {
            **super().get_config(),
            "bit_depth": self.bit_depth,
            "bounds": self.bounds,
            "gradient": self.gradient,
        }
