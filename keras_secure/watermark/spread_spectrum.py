"""A message spread over every value of the marked weights, held by a margin."""

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
# Of the weight's norm, the share that the default margin takes, and the margin beyond which more
# buys little: pruning 95% of a weight halves a score, and fine-tuning rarely does worse. A third of
# the norm and a margin of 8 cost half a point of accuracy more (benchmarks/watermark_grid.py).
_SHARE_OF_NORM = 0.2
_LARGEST_MARGIN = 4.0
_LEAST_SHARE = 8
_MOST_ROUNDS = 200
_SLACK = 1e-3


@component("watermark")
class SpreadSpectrum(Mark):
    """Embeds a keyed payload by correlating weights with secret sequences of +1 and -1.

    The key assigns every value of the flattened weight to one raw bit, in random order and equal
    shares, and gives it a sign. A bit's score is the signed sum over its share, divided by the root
    of the share's size and by the weight's root mean square: a standard normal number for a weight
    that knows nothing of the key. The penalty is the mean over bits of
    `max(0, margin - score * bit)**2` with `bit` as +1 or -1: zero, and without gradient, as soon as
    every bit is held with the margin, so that training is then left alone.

    Disjoint shares cost no more distortion than sequences over the full length (margin times root
    mean square times the root of `num_bits`, either way), do not disturb each other, and need
    memory for one sign and one index per value instead of `num_bits` of them.

    Every weight it is put on carries all 256 raw bits, each with carriers of its own, and a reading
    adds their scores up. So a head that is replaced or a layer that is lost takes its share of the
    evidence, and no bit of the message.

    Args:
        key: The secret, bytes or text. None makes a dormant mark.
        payload: 64 bits: up to 8 bytes of text or bytes, an integer, or 64 values of 0 and 1; drawn
            from the key when it is not given.
        message: Bits to embed without a code instead, for small weights.
        num_bits: Length of a message without a code that is drawn from the key.
        strength: Factor of the penalty in the loss.
        margin: How many standard deviations of an unmarked weight's score each bit is held by, in
            each weight. More resists more noise and moves the weights more: `margin *
            sqrt(num_bits / size)` is the share of the weight's norm that it takes, and a little
            more in small weights, where half the bits must be turned round first. By default a
            fifth of the norm, and not more than a margin of 4.

    Raises:
        InputError: An option is out of range; or, when called, the weight has fewer than
            `num_bits * max(8, 4 * margin**2)` values (8 for each bit by default).

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
        payload: bytes | str | int | Sequence[int] | None = None,
        *,
        message: bytes | str | Sequence[int] | None = None,
        num_bits: int | None = None,
        strength: float = 0.1,
        margin: float | None = None,
    ):
        super().__init__(key, payload, message=message, num_bits=num_bits, strength=strength)
        self.margin = None if margin is None else as_positive(margin, "margin")
        self._cache: dict[tuple[tuple[int, ...], int], tuple[np.ndarray, np.ndarray]] = {}

    def margin_of(self, shape: tuple[int, ...]) -> float:
        """The margin that every bit has in a weight of this shape, as a plain number."""
        if self.margin is not None:
            return self.margin
        share = int(np.prod(shape)) / self.num_bits
        return min(_LARGEST_MARGIN, _SHARE_OF_NORM * float(np.sqrt(share)))

    def confidence(self, shape):
        """Returns the margin: scores of unit variance add up best in proportion to it."""
        return self.margin_of(shape)

    def check_shape(self, shape):
        """Asks for enough values for every bit to be held with its margin."""
        size = int(np.prod(shape))
        # A share of n values of one size reaches a score of sqrt(n) at most; half of that leaves
        # the weight room to do its work.
        least = 0 if self.margin is None else int(np.ceil(4 * self.margin**2))
        needed = self.num_bits * max(_LEAST_SHARE, least)
        if size < needed:
            held = "" if self.margin is None else f" with margin {self.margin:g}"
            raise InputError(
                f"A weight of shape {shape} has {size} values, and {self.num_bits} bits{held} "
                f"need {needed}. Mark a larger weight, or use num_bits="
                f"{size * self.num_bits // needed} (a plain message) or a smaller margin."
            )

    def scores(self, weights, copy=0):
        """Returns each bit's score, in standard deviations of an unmarked weight's."""
        self.check_shape(weights.shape)
        carrier, shares = self._carrier(weights.shape, copy)
        values = np.asarray(weights, np.float64).ravel()
        scale = max(float(np.sqrt(np.mean(values**2))), _SMALLEST_SCALE)
        return np.bincount(shares, values * carrier, self.num_bits) / scale

    def penalty(self, weights: Any, copy: int = 0) -> Any:
        """Returns the mean squared shortfall of the margin."""
        ops = keras.ops
        shape = tuple(weights.shape)
        carrier, shares = self._carrier(shape, copy)
        values = ops.reshape(weights, (-1,))
        scale = ops.sqrt(ops.mean(ops.square(values)))
        # The unit is measured and not trained: the gradient lies along the carriers alone, and
        # never pulls at the size of the weight.
        scale = ops.stop_gradient(ops.maximum(scale, _SMALLEST_SCALE))
        sums = ops.segment_sum(values * carrier, shares, num_segments=self.num_bits)
        signs = (2 * self.message() - 1).astype("float32")
        return ops.mean(ops.square(ops.relu(self.margin_of(shape) - sums * signs / scale)))

    def nearest(self, weights, copy=0):
        """Returns the weights moved along their carriers, each bit as far as it falls short.

        For a fixed scale this is the orthogonal projection onto the weights that hold every
        margin, since carriers have unit norm and share no value. The scale grows a little with
        it, so a few rounds are made until the margins hold.
        """
        self.check_shape(weights.shape)
        carrier, shares = self._carrier(weights.shape, copy)
        carrier = carrier.astype(np.float64)
        signs = 2.0 * self.message() - 1
        margin = self.margin_of(weights.shape)
        moved = np.asarray(weights, np.float64).ravel().copy()
        for _ in range(_MOST_ROUNDS):
            scale = max(float(np.sqrt(np.mean(moved**2))), _SMALLEST_SCALE)
            held = signs * np.bincount(shares, moved * carrier, self.num_bits) / scale
            short = np.maximum(0.0, margin * (1 + _SLACK) - held)
            if held.min() >= margin:
                break
            moved += scale * (signs * short)[shares] * carrier
        return moved.reshape(weights.shape)

    def get_config(self):
        """Returns the public options, without the key and the message."""
        return {**super().get_config(), "margin": self.margin}

    def _carrier(self, shape: tuple[int, ...], copy: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the signs, divided by the root of their share's size, and the shares."""
        if (shape, copy) not in self._cache:
            size = int(np.prod(shape))
            shares = np.empty(size, np.int32)
            order = random_order(self.key, self.purpose("order", shape, copy), size)
            shares[order] = np.arange(size, dtype=np.int32) % self.num_bits
            signs = 2 * random_bits(self.key, self.purpose("signs", shape, copy), size) - 1
            root = np.sqrt(np.bincount(shares, minlength=self.num_bits))
            self._cache[shape, copy] = ((signs / root[shares]).astype(np.float32), shares)
        return self._cache[shape, copy]
