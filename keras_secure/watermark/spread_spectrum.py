"""A message spread over every value of a weight, held by a margin."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_secure.errors import InputError
from keras_secure.registration import component
from keras_secure.watermark.carriers import random_bits, random_order
from keras_secure.watermark.mark import Mark, as_positive

# Weights below this root mean square count as this large, so that an all-zero weight has a
# finite gradient.
_SMALLEST_SCALE = 1e-3


@component("watermark")
class SpreadSpectrum(Mark):
    """Embeds a keyed message by correlating a weight with secret sequences of +1 and -1.

    The key assigns every value of the flattened weight to one bit, in random order and equal
    shares, and gives it a sign. A bit's score is the signed sum over its share, divided by the root
    of the share's size and by the weight's root mean square: a standard normal number for a weight
    that knows nothing of the key. The penalty is the mean over bits of
    `max(0, margin - score * bit)**2` with `bit` as +1 or -1: zero, and without gradient, as soon as
    every bit is held with the margin, so that training is then left alone.

    Disjoint shares cost no more distortion than sequences over the full length (margin times root
    mean square times the root of `num_bits`, either way), do not disturb each other, and need
    memory for one sign and one index per value instead of `num_bits` of them.

    Args:
        key: The secret, bytes or text. None makes a dormant mark.
        message: Bytes, text, or a sequence of 0 and 1; drawn from the key when it is not given.
        num_bits: Length of the message drawn from the key, 64 when not given.
        strength: Factor of the penalty in the loss.
        margin: How many standard deviations of an unmarked weight's score each bit is held by.
            More resists more noise and moves the weights more; `margin * sqrt(num_bits / size)`
            is the share of the weight's norm that it takes.

    Raises:
        InputError: An option is out of range; or, when called, the weight has fewer than
            `num_bits * max(8, 4 * margin**2)` values.

    Example:

    >>> mark = SpreadSpectrum("a secret", num_bits=16)
    >>> weight = keras.ops.ones((32, 32))
    >>> bool(mark(weight) > 0)
    True
    >>> SpreadSpectrum.from_config(mark.get_config()).dormant
    True

    Reference:
        Cox et al. 1997, Secure spread spectrum watermarking for multimedia, section IV;
        Uchida et al. 2017 (arXiv 1701.04082), section 3, for embedding by a regularizer.
    """

    def __init__(
        self,
        key: bytes | str | None,
        message: bytes | str | Sequence[int] | None = None,
        num_bits: int | None = None,
        strength: float = 1.0,
        margin: float = 2.0,
    ):
        super().__init__(key, message, num_bits, strength)
        self.margin = as_positive(margin, "margin")
        self._cache: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}

    def check_shape(self, shape):
        """Asks for enough values for every bit to be held with its margin."""
        size = int(np.prod(shape))
        # A share of n values of one size reaches a score of sqrt(n) at most; half of that leaves
        # the weight room to do its work.
        needed = self.num_bits * max(8, int(np.ceil(4 * self.margin**2)))
        if size < needed:
            raise InputError(
                f"A weight of shape {shape} has {size} values, and {self.num_bits} bits with "
                f"margin {self.margin:g} need {needed}. Mark a larger weight, or use num_bits="
                f"{size * self.num_bits // needed} or a smaller margin."
            )

    def scores(self, weights):
        """Returns each bit's score, in standard deviations of an unmarked weight's."""
        self.check_shape(weights.shape)
        carrier, shares = self._carrier(weights.shape)
        values = np.asarray(weights, np.float64).ravel()
        scale = max(float(np.sqrt(np.mean(values**2))), _SMALLEST_SCALE)
        return np.bincount(shares, values * carrier, self.num_bits) / scale

    def penalty(self, weights: Any) -> Any:
        """Returns the mean squared shortfall of the margin."""
        ops = keras.ops
        carrier, shares = self._carrier(tuple(weights.shape))
        values = ops.reshape(weights, (-1,))
        scale = ops.sqrt(ops.mean(ops.square(values)))
        # The unit is measured and not trained: the gradient lies along the carriers alone, and
        # never pulls at the size of the weight.
        scale = ops.stop_gradient(ops.maximum(scale, _SMALLEST_SCALE))
        sums = ops.segment_sum(values * carrier, shares, num_segments=self.num_bits)
        signs = (2 * self.message() - 1).astype("float32")
        return ops.mean(ops.square(ops.relu(self.margin - sums * signs / scale)))

    def get_config(self):
        """Returns the public options, without the key and the message."""
        return {**super().get_config(), "margin": self.margin}

    def _carrier(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the signs, divided by the root of their share's size, and the shares."""
        if shape not in self._cache:
            size = int(np.prod(shape))
            shares = np.empty(size, np.int32)
            order = random_order(self.key, self.purpose("order", shape), size)
            shares[order] = np.arange(size, dtype=np.int32) % self.num_bits
            signs = 2 * random_bits(self.key, self.purpose("signs", shape), size) - 1
            root = np.sqrt(np.bincount(shares, minlength=self.num_bits))
            self._cache[shape] = ((signs / root[shares]).astype(np.float32), shares)
        return self._cache[shape]
