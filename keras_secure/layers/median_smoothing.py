"""Median filtering of images."""

import keras

from keras_secure.arguments import check_channels_last, is_integer
from keras_secure.errors import InputError
from keras_secure.registration import component

GRADIENTS = ("exact", "straight_through")


@component("layers")
class MedianSmoothing(keras.layers.Layer):
    """Replaces each pixel by the median of the window around it, channel by channel.

    That wipes out changes of a few single pixels, as attacks in l0 make them. It is a hurdle, not a
    defence: an attacker who knows the filter changes the pixels that are the medians. The median
    passes the gradient on to the pixel it took, which is exact, and on a small set of pixels only;
    the straight-through estimator, which takes the layer for the identity, spreads it over all. An
    honest evaluation attacks through both.

    Args:
        window: Int from 2 to 9: height and width of the window, or a pair of them. With an even
            number of pixels in the window the two in the middle are averaged, and it reaches one
            pixel further to the top and left.
        gradient: `"exact"` (the default): the gradient of the median, a sub-gradient where pixels
            tie. `"straight_through"`: the identity.
        **kwargs: Keyword arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Floating point tensor of shape (batch, height, width, channels), larger than half
            of the window. Borders are reflected, without repeating the outermost pixel.

    Returns:
        A tensor of the same shape and dtype.

    Raises:
        InputError: If an argument is out of its range, or the inputs are no images.

    Example:

    >>> image = keras.ops.reshape(keras.ops.array([0.0, 0, 0, 0, 1, 0, 0, 0, 0]), (1, 3, 3, 1))
    >>> float(keras.ops.max(MedianSmoothing(3)(image)))
    0.0

    Reference:
        Xu, Evans and Qi 2018, Feature Squeezing, arXiv 1704.01155, section III.B.
    """

    def __init__(self, window=3, gradient="exact", **kwargs):
        super().__init__(**kwargs)
        pair = (window, window) if is_integer(window) else window
        if (
            not isinstance(pair, (list, tuple))
            or len(pair) != 2
            or not all(is_integer(side) and 1 <= side <= 9 for side in pair)
            or tuple(pair) == (1, 1)
        ):
            raise InputError(
                f"MedianSmoothing got window={window!r}; expected an int from 2 to 9, or a pair of "
                "ints from 1 to 9."
            )
        if gradient not in GRADIENTS:
            raise InputError(
                f"MedianSmoothing got gradient={gradient!r}; expected one of "
                f"{', '.join(map(repr, GRADIENTS))}."
            )
        self.window = window if is_integer(window) else tuple(pair)
        self.gradient = gradient
        self.supports_masking = True
        self._sides = tuple(pair)

    def call(self, inputs):
        """Takes the medians; see the class."""
        ops = keras.ops
        height, width = self._checked_size(inputs.shape)
        smoothed = self._medians(inputs, height, width)
        if self.gradient == "straight_through":
            return ops.stop_gradient(smoothed) + (inputs - ops.stop_gradient(inputs))
        return smoothed

    def compute_output_shape(self, input_shape):
        """The shape of the inputs."""
        self._checked_size(input_shape)
        return input_shape

    def get_config(self):
        """The arguments that rebuild this layer."""
        return {**super().get_config(), "window": self.window, "gradient": self.gradient}

    def _medians(self, inputs, height, width):
        ops = keras.ops
        rows, columns = self._sides
        top, left = rows // 2, columns // 2
        padded = _reflected(inputs, 1, top, rows - 1 - top)
        padded = _reflected(padded, 2, left, columns - 1 - left)
        values = [
            padded[:, row : row + height, column : column + width]
            for row in range(rows)
            for column in range(columns)
        ]
        middle = len(values) // 2
        wanted = {middle} if len(values) % 2 else {middle - 1, middle}
        # A sorting network works on whole images at once, where a sort works pixel by pixel.
        for low, high in _network(len(values), wanted):
            values[low], values[high] = (
                ops.minimum(values[low], values[high]),
                ops.maximum(values[low], values[high]),
            )
        return sum(values[place] for place in sorted(wanted)) / len(wanted)

    def _checked_size(self, shape):
        if len(shape) != 4 or None in shape[1:3]:
            raise InputError(
                f"MedianSmoothing {self.name!r} got inputs of shape {tuple(shape)}; expected "
                "images, (batch, height, width, channels), of known height and width."
            )
        check_channels_last(f"MedianSmoothing {self.name!r}", keras.config.image_data_format())
        if any(side // 2 >= size for side, size in zip(self._sides, shape[1:3], strict=True)):
            raise InputError(
                f"MedianSmoothing {self.name!r} got images of {shape[1]} x {shape[2]} pixels for a "
                f"window of {self._sides[0]} x {self._sides[1]}: they are too small to be "
                "reflected at their borders. Use a smaller window."
            )
        return shape[1], shape[2]


def _reflected(images, axis, before, after):
    """Adds mirrored rows or columns; as `ops.pad` would, but for batches of no images too."""
    ops = keras.ops
    size = images.shape[axis]
    lines = [slice(None)] * 4
    parts = [images]
    if before:
        lines[axis] = slice(1, before + 1)
        parts.insert(0, ops.flip(images[tuple(lines)], axis))
    if after:
        lines[axis] = slice(size - 1 - after, size - 1)
        parts.append(ops.flip(images[tuple(lines)], axis))
    return ops.concatenate(parts, axis=axis)


def _network(count, wanted):
    """Comparators of Batcher's merge-exchange sort that the wanted places depend on, in order."""
    comparators = []
    top = 1 << (count - 1).bit_length() - 1
    step = top
    while step > 0:
        span, offset, distance = top, 0, step
        while True:
            comparators += [
                (low, low + distance) for low in range(count - distance) if low & step == offset
            ]
            if span == step:
                break
            distance, span, offset = span - step, span // 2, step
        step //= 2
    needed, kept = set(wanted), []
    for low, high in reversed(comparators):
        if low in needed or high in needed:
            needed |= {low, high}
            kept.append((low, high))
    return kept[::-1]
