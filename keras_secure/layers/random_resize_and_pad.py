"""Images at a random size and place."""

import keras

from keras_secure.arguments import check_channels_last, is_integer, is_number
from keras_secure.errors import InputError
from keras_secure.layers.random_noise import ACTIVE
from keras_secure.registration import component


@component("layers")
class RandomResizeAndPad(keras.layers.Layer):
    """Resizes each image to a random size and puts it at a random place of an empty one.

    A perturbation made for one size and place fits others less well. It is a hurdle, not a defence:
    attacks that average the gradient over the layer's draws (expectation over transformation) get
    through (Athalye et al. 2018, arXiv 1802.00420, section 5.3). Every example has a draw of its
    own. Resizing is bilinear and has its exact gradient.

    The paper enlarges: images of 299 x 299 to 299 up to 330, inside 331 x 331. That is
    `output_size=331, min_scale=299 / 331`. Without an `output_size` images keep their shape and
    shrink instead, so that the layer can stand in front of a model as it is.

    Args:
        output_size: `None` (the default) for the size of the inputs, or an int or a pair (height,
            width) of ints.
        min_scale: Smallest side of the resized image as a share of the output's, in (0, 1]. The
            share is drawn uniformly from there to 1, the same for height and width. Defaults to
            0.9.
        fill_value: The value around the image, in units of the inputs. Defaults to 0.
        active: `"inference"` (the default), `"training"` or `"always"`: the calls that draw. In
            all other calls the image fills the output: without an `output_size`, the layer is
            exactly the identity.
        seed: `None` (the default), or an int that makes the sequence of draws reproducible.
        **kwargs: Keyword arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Floating point tensor of shape (batch, height, width, channels).
        training: Whether the call is a training call. Defaults to False.

    Returns:
        A tensor of shape (batch, *output_size, channels), of the dtype of the layer.

    Raises:
        InputError: If an argument is out of its range, or the inputs are no images.

    Example:

    >>> layer = RandomResizeAndPad(min_scale=0.5, seed=1)
    >>> placed = layer(keras.ops.ones((2, 8, 8, 1)))
    >>> tuple(placed.shape), float(keras.ops.min(placed)), float(keras.ops.max(placed))
    ((2, 8, 8, 1), 0.0, 1.0)

    Reference:
        Xie et al. 2018, Mitigating Adversarial Effects Through Randomization, arXiv 1711.01991,
        section 3.
    """

    def __init__(
        self,
        output_size=None,
        min_scale=0.9,
        fill_value=0.0,
        active="inference",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        pair = (output_size, output_size) if is_integer(output_size) else output_size
        if pair is not None and (
            not isinstance(pair, (list, tuple))
            or len(pair) != 2
            or not all(is_integer(side) and side >= 1 for side in pair)
        ):
            raise InputError(
                f"RandomResizeAndPad got output_size={output_size!r}; expected None, an int of at "
                "least 1, or a pair (height, width) of them."
            )
        if not is_number(min_scale) or not 0 < min_scale <= 1:
            raise InputError(
                f"RandomResizeAndPad got min_scale={min_scale!r}; expected a number above 0 and at "
                "most 1: the smallest size, as a share of the output's."
            )
        if not is_number(fill_value) or not abs(fill_value) < float("inf"):
            raise InputError(
                f"RandomResizeAndPad got fill_value={fill_value!r}; expected a finite number."
            )
        if active not in ACTIVE:
            raise InputError(
                f"RandomResizeAndPad got active={active!r}; expected one of "
                f"{', '.join(map(repr, ACTIVE))}: the calls in which sizes and places are drawn."
            )
        self.output_size = None if pair is None else tuple(int(side) for side in pair)
        self.min_scale, self.fill_value = float(min_scale), float(fill_value)
        self.active = active
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def call(self, inputs, training=False):
        """Resizes and places; see the class."""
        ops = keras.ops
        height, width, _ = self._checked_image(inputs.shape)
        draws = self.active == "always" or bool(training) == (self.active == "training")
        rows, columns = self.output_size or (height, width)
        if not draws and (rows, columns) == (height, width):
            return inputs
        batch = ops.shape(inputs)[0]
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        if draws:
            uniform = keras.random.uniform((3, batch), dtype="float32", seed=self.seed_generator)
            scale = self.min_scale + (1.0 - self.min_scale) * uniform[0]
            down = _interpolation(height, rows, scale, uniform[1], dtype)
            across = _interpolation(width, columns, scale, uniform[2], dtype)
        else:
            whole, first = ops.ones((batch,), "float32"), ops.zeros((batch,), "float32")
            down = _interpolation(height, rows, whole, first, dtype)
            across = _interpolation(width, columns, whole, first, dtype)
        # Shifted, so that what no weight reaches becomes the fill value.
        shifted = ops.cast(inputs, dtype) - self.fill_value
        placed = ops.einsum("bih,bhwc->biwc", down, shifted)
        placed = ops.einsum("bjw,biwc->bijc", across, placed)
        return ops.cast(placed + self.fill_value, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """The shape of the inputs, with the height and width of the output."""
        height, width, channels = self._checked_image(input_shape)
        return (input_shape[0], *(self.output_size or (height, width)), channels)

    def get_config(self):
        """The arguments that rebuild this layer."""
        return {
            **super().get_config(),
            "output_size": self.output_size,
            "min_scale": self.min_scale,
            "fill_value": self.fill_value,
            "active": self.active,
            "seed": self.seed,
        }

    def _checked_image(self, shape):
        if len(shape) != 4 or None in shape[1:3]:
            raise InputError(
                f"RandomResizeAndPad {self.name!r} got inputs of shape {tuple(shape)}; expected "
                "images, (batch, height, width, channels), of known height and width."
            )
        check_channels_last(f"RandomResizeAndPad {self.name!r}", keras.config.image_data_format())
        return shape[1:]


def _interpolation(source, target, scale, place, dtype):
    """Weights, (batch, target, source), that resize one axis and put it at a place.

    `scale` is the share of the target that the image takes, rounded to whole pixels, and `place`,
    in [0, 1), says which of the possible places it has. Rows outside of the image are zero.
    """
    ops = keras.ops
    size = ops.clip(ops.round(scale * target), 1.0, target)[:, None]
    first = ops.floor(place[:, None] * (target - size + 1.0))
    pixel = ops.arange(target, dtype="float32")[None] - first
    inside = ops.logical_and(pixel >= 0.0, pixel < size)
    # Centres of pixels are mapped to each other; beyond the outermost its value goes on.
    centre = ops.clip((pixel + 0.5) * (source / size) - 0.5, 0.0, source - 1.0)
    distance = ops.abs(centre[:, :, None] - ops.arange(source, dtype="float32")[None, None])
    weights = ops.where(inside[:, :, None], ops.maximum(1.0 - distance, 0.0), 0.0)
    return ops.cast(weights, dtype)
