"""The squeezers that feature squeezing compares with by default."""

import keras
from keras import ops


class BitDepth(keras.layers.Layer):
    """Rounds inputs in [low, high] to 2^bits levels; its gradient is the identity.

    Example:

    >>> BitDepth(1)(ops.convert_to_tensor([[0.2, 0.7]])).numpy().tolist()
    [[0.0, 1.0]]
    """

    def __init__(self, bits, bounds=(0.0, 1.0), **kwargs):
        super().__init__(**kwargs)
        self.bits, self.bounds = bits, bounds

    def call(self, x):
        """Returns the rounded inputs."""
        low, high = self.bounds
        levels = 2**self.bits - 1
        squeezed = low + ops.round((x - low) / (high - low) * levels) / levels * (high - low)
        # Rounding has no useful gradient; an adaptive attack takes this one.
        return x + ops.stop_gradient(squeezed - x)


class Median(keras.layers.Layer):
    """Replaces each value by the median of a square of its neighbours, mirrored at the border.

    Of an even number of values the upper of the two middle ones is taken, and an even square
    reaches one further up and left than down and right, as in the paper's own filter.

    Example:

    >>> spot = ops.convert_to_tensor([[[[0.0], [0.0], [0.0]]] + [[[0.0], [9.0], [0.0]]]])
    >>> float(ops.max(Median(3)(spot)))
    0.0
    """

    def __init__(self, size=2, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, x):
        """Returns the filtered images, of shape (batch, height, width, channels)."""
        before, after = self.size // 2, self.size - 1 - self.size // 2
        padding = [(0, 0), (before, after), (before, after), (0, 0)]
        padded = ops.pad(x, padding, mode="symmetric")
        height, width = x.shape[1], x.shape[2]
        shifted = [
            padded[:, row : row + height, column : column + width]
            for row in range(self.size)
            for column in range(self.size)
        ]
        return ops.sort(ops.stack(shifted, axis=-1), axis=-1)[..., self.size**2 // 2]
