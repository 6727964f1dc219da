"""JPEG compression of images, as a layer."""

import keras
import numpy as np

from keras_secure.arguments import check_channels_last, is_integer
from keras_secure.errors import InputError
from keras_secure.layers.bounds import checked_bounds
from keras_secure.layers.rounding import rounded
from keras_secure.registration import component

GRADIENTS = ("straight_through", "cubic")

# Quantization steps of quality 50, ITU-T T.81, annex K: brightness, then colour.
_BRIGHTNESS = """
16 11 10 16 24 40 51 61  12 12 14 19 26 58 60 55  14 13 16 24 40 57 69 56  14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77  24 35 55 64 81 104 113 92  49 64 78 87 103 121 120 101
72 92 95 98 112 100 103 99
"""
_COLOUR = """
17 18 24 47 99 99 99 99  18 21 26 66 99 99 99 99  24 26 56 99 99 99 99 99  47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99
"""
# From red, green and blue to brightness and two differences of colour (JFIF).
_TO_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]]
)


@component("layers")
class JPEGCompression(keras.layers.Layer):
    """Compresses images as JPEG does and gives what a decoder would make of them.

    Bytes, colour differences at half the resolution, 8 x 8 cosine transforms, rounding to the steps
    of a quality: everything that loses something is done, and the lossless packing left out. It
    removes many weak perturbations and is a hurdle, not a defence: with a gradient through the
    rounding, attacks go through it (Shin & Song 2017). That gradient is therefore the layer's own.

    Args:
        quality: Int from 1 to 100, the usual scale. Defaults to 75.
        bounds: Pair of floats (low, high), the range of the inputs, mapped to bytes from 0 to 255.
            Defaults to `(0.0, 1.0)`.
        chroma_subsampling: Whether colour is kept at half the height and width (4:2:0), as most
            encoders do. Defaults to True. Images of one channel have no colour.
        gradient: `"straight_through"` (the default): rounding and clipping to bytes count as the
            identity, and all else has its own gradient. `"cubic"`: the rounding of coefficients has
            the gradient of round(x) + (x - round(x))^3. Values are the same with both.
        **kwargs: Keyword arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Floating point tensor of shape (batch, height, width, 1 or 3).

    Returns:
        A tensor of the same shape and dtype, in `bounds`.

    Raises:
        InputError: If an argument is out of its range, or the inputs are no such images.

    Example:

    >>> images = keras.ops.ones((1, 16, 16, 3)) * 0.5
    >>> compressed = JPEGCompression(quality=50)(images)
    >>> float(keras.ops.max(keras.ops.abs(compressed - images))) < 0.01
    True

    Reference:
        Dziugaite, Ghahramani and Roy 2016, arXiv 1608.00853; Shin & Song 2017, JPEG-resistant
        Adversarial Images. The format: ITU-T T.81 and T.871 (JFIF).
    """

    def __init__(
        self,
        quality=75,
        bounds=(0.0, 1.0),
        chroma_subsampling=True,
        gradient="straight_through",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not is_integer(quality) or not 1 <= quality <= 100:
            raise InputError(
                f"JPEGCompression got quality={quality!r}; expected an int from 1 to 100."
            )
        if gradient not in GRADIENTS:
            raise InputError(
                f"JPEGCompression got gradient={gradient!r}; expected one of "
                f"{', '.join(map(repr, GRADIENTS))}."
            )
        self.quality = int(quality)
        self.bounds = checked_bounds("JPEGCompression", bounds)
        self.chroma_subsampling = bool(chroma_subsampling)
        self.gradient = gradient
        self.supports_masking = True

    def call(self, inputs):
        """Compresses and decodes; see the class."""
        ops = keras.ops
        self._check_images(inputs.shape)
        low, high = self.bounds
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        unit = (ops.clip(ops.cast(inputs, dtype), low, high) - low) / (high - low)
        # As in the format: bytes in, bytes out, and bytes between colour and cosines.
        pixels = rounded(unit * 255.0, "straight_through")
        pixels = self._grey(pixels) if inputs.shape[-1] == 1 else self._colour(pixels)
        return ops.cast(low + pixels * ((high - low) / 255.0), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """The shape of the inputs."""
        self._check_images(input_shape)
        return input_shape

    def get_config(self):
        """The arguments that rebuild this layer."""
        return {
            **super().get_config(),
            "quality": self.quality,
            "bounds": self.bounds,
            "chroma_subsampling": self.chroma_subsampling,
            "gradient": self.gradient,
        }

    def _grey(self, pixels):
        height, width = pixels.shape[1:3]
        whole = _extended(pixels, -height % 8, -width % 8)
        return self._coded(whole, _BRIGHTNESS)[:, :height, :width]

    def _colour(self, pixels):
        ops = keras.ops
        height, width = pixels.shape[1:3]
        step = 16 if self.chroma_subsampling else 8
        whole = _extended(pixels, -height % step, -width % step)
        shift = np.array([0.0, 128.0, 128.0])
        planes = ops.matmul(whole, ops.cast(_TO_YCC.T, whole.dtype)) + ops.cast(shift, whole.dtype)
        planes = _byte(planes)
        brightness = self._coded(planes[..., :1], _BRIGHTNESS)[:, :height, :width]
        colour = planes[..., 1:]
        if self.chroma_subsampling:
            colour = rounded(_halved(colour), "straight_through")
            rows, columns = -(-height // 2), -(-width // 2)
            colour = self._coded(colour, _COLOUR)[:, :rows, :columns]
            # One axis after the other: the triangle filter that decoders use.
            colour = _doubled(_doubled(colour, 1), 2)
            colour = rounded(colour, "straight_through")
        else:
            colour = self._coded(colour, _COLOUR)
        colour = colour[:, :height, :width] - 128.0
        back = ops.cast(np.linalg.inv(_TO_YCC).T, whole.dtype)
        return _byte(ops.matmul(ops.concatenate([brightness, colour], axis=-1), back))

    def _coded(self, planes, table):
        """Rounds the cosine coefficients of 8 x 8 blocks to the steps of the table."""
        ops = keras.ops
        _, height, width, channels = planes.shape
        steps = ops.cast(quantization_steps(table, self.quality), planes.dtype)
        cosines = ops.cast(_cosines(), planes.dtype)
        blocks = ops.reshape(planes - 128.0, (-1, height // 8, 8, width // 8, 8, channels))
        coefficients = ops.einsum("ui,bhiwjc,vj->bhwcuv", cosines, blocks, cosines)
        kept = rounded(coefficients / steps, self.gradient) * steps
        blocks = ops.einsum("ui,bhwcuv,vj->bhiwjc", cosines, kept, cosines)
        return _byte(ops.reshape(blocks, (-1, height, width, channels)) + 128.0)

    def _check_images(self, shape):
        if len(shape) == 4:
            check_channels_last(f"JPEGCompression {self.name!r}", keras.config.image_data_format())
        if len(shape) != 4 or None in shape[1:] or shape[-1] not in (1, 3):
            raise InputError(
                f"JPEGCompression {self.name!r} got inputs of shape {tuple(shape)}; expected "
                "images of known size, (batch, height, width, channels), with 1 or 3 channels."
            )


def quantization_steps(table, quality):
    """Returns the (8, 8) steps that a quality makes of a table for quality 50."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    base = np.array(table.split(), "int64").reshape(8, 8)
    return np.clip((base * scale + 50) // 100, 1, 255)


def _cosines():
    """The orthonormal cosine transform of 8 values, one row for each frequency."""
    frequency, place = np.mgrid[:8, :8]
    rows = np.cos((2 * place + 1) * frequency * np.pi / 16) / 2
    rows[0] /= np.sqrt(2)
    return rows


def _byte(values):
    """Clips and rounds to bytes. Values cut off keep their gradient, for attacks to follow."""
    ops = keras.ops
    whole = ops.stop_gradient(ops.round(ops.clip(values, 0.0, 255.0)))
    return whole + (values - ops.stop_gradient(values))


def _extended(planes, rows, columns):
    """Repeats the last row and column, as encoders fill their last blocks."""
    ops = keras.ops
    if rows:
        planes = ops.concatenate([planes, ops.repeat(planes[:, -1:], rows, axis=1)], axis=1)
    if columns:
        planes = ops.concatenate([planes, ops.repeat(planes[:, :, -1:], columns, axis=2)], axis=2)
    return planes


def _halved(planes):
    return (
        planes[:, ::2, ::2] + planes[:, 1::2, ::2] + planes[:, ::2, 1::2] + planes[:, 1::2, 1::2]
    ) / 4.0


def _doubled(planes, axis):
    """Each value becomes two, each three quarters of it and a quarter of its nearer neighbour."""
    ops = keras.ops
    size = planes.shape[axis]
    before = ops.take(planes, np.maximum(np.arange(size) - 1, 0), axis=axis)
    after = ops.take(planes, np.minimum(np.arange(size) + 1, size - 1), axis=axis)
    pair = ops.stack([0.75 * planes + 0.25 * before, 0.75 * planes + 0.25 * after], axis=axis + 1)
    shape = list(planes.shape)
    shape[0], shape[axis] = -1, 2 * size
    return ops.reshape(pair, shape)
