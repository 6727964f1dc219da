"""Uchida's watermark: a logistic classifier whose data are secret and whose weight is the layer."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_secure.errors import InputError
from keras_secure.registration import component
from keras_secure.watermark.carriers import standard_normal
from keras_secure.watermark.mark import Mark

# A logit of 4 reads its bit with a loss of 0.02, about what training by the penalty leaves.
_LOGIT_MARGIN = 4.0
_MOST_ROUNDS = 200
_SLACK = 1e-3


@component("watermark")
class Uchida(Mark):
    """Embeds a keyed message in the mean of a layer's filters.

    A weight of rank 2 or more is averaged over its last axis, the output filters, and flattened to
    a vector w; a vector is taken as it is. With the key's standard normal matrix X of shape
    (num_bits, size of w) and the message b, the penalty is the binary cross-entropy between
    sigmoid(Xw) and b, summed over the bits. It never reaches zero, so it keeps pushing for as long
    as training lasts.

    Args:
        key: The secret, bytes or text. None makes a dormant mark.
        payload: 64 bits to code into 256 raw bits: up to 8 bytes of text or bytes, an integer, or
            64 values of 0 and 1; drawn from the key when it is not given.
        message: Bits to embed without a code instead, as the paper does.
        num_bits: Length of a message without a code that is drawn from the key.
        strength: Factor of the penalty in the loss, lambda in the paper.

    Raises:
        InputError: An option is out of range; or, when called, w has fewer values than the message
            has bits.

    Example:

    >>> mark = Uchida("a secret", num_bits=16)
    >>> round(float(mark(keras.ops.zeros((3, 3, 8, 4)))) / (0.01 * 16), 4)  # log 2 for each bit
    0.6931

    Reference:
        Uchida et al. 2017, Embedding watermarks into deep neural networks (arXiv 1701.04082),
        section 3.
    """

    def __init__(
        self,
        key: bytes | str | None,
        payload: bytes | str | int | Sequence[int] | None = None,
        *,
        message: bytes | str | Sequence[int] | None = None,
        num_bits: int | None = None,
        strength: float = 0.01,
    ):
        super().__init__(key, payload, message=message, num_bits=num_bits, strength=strength)
        self._cache: dict[tuple[tuple[int, ...], int], np.ndarray] = {}

    def check_shape(self, shape):
        """Asks for as many values in the mean filter as the message has bits."""
        size = int(np.prod(shape[:-1] if len(shape) > 1 else shape))
        if size < self.num_bits:
            raise InputError(
                f"A weight of shape {shape} leaves {size} values after the mean over its filters, "
                f"and {self.num_bits} bits need as many. Mark a larger weight, or use at most "
                f"num_bits={size}."
            )

    def scores(self, weights, copy=0):
        """Returns the logit of every bit."""
        self.check_shape(weights.shape)
        values = np.asarray(weights, np.float64)
        mean = values.mean(axis=-1).ravel() if values.ndim > 1 else values
        return self._projection(weights.shape, copy).astype(np.float64) @ mean

    def penalty(self, weights: Any, copy: int = 0) -> Any:
        """Returns the binary cross-entropy between what is read and the message."""
        ops = keras.ops
        projection = self._projection(tuple(weights.shape), copy)
        mean = ops.mean(weights, axis=-1) if len(weights.shape) > 1 else weights
        logits = ops.squeeze(ops.matmul(projection, ops.reshape(mean, (-1, 1))), -1)
        bits = self.message().astype("float32")
        return ops.sum(ops.softplus(logits) - bits * logits)

    def nearest(self, weights, copy=0):
        """Returns the weights with the mean filter moved until every logit has its margin.

        The paper has no such embedding. All filters move alike, which is the least change of the
        weights for a change of their mean; each round takes the least change of the mean that
        gives the bits that fall short the margin, as Newton's method for one active set does.
        """
        self.check_shape(weights.shape)
        projection = self._projection(weights.shape, copy).astype(np.float64)
        signs = 2.0 * self.message() - 1
        moved = np.asarray(weights, np.float64).copy()
        for _ in range(_MOST_ROUNDS):
            held = signs * self.scores(moved, copy)
            if held.min() >= _LOGIT_MARGIN:
                break
            active = held < _LOGIT_MARGIN * (1 + _SLACK)
            gap = (signs * (_LOGIT_MARGIN * (1 + _SLACK) - held))[active]
            step = np.linalg.lstsq(projection[active], gap, rcond=None)[0]
            moved += step.reshape(*weights.shape[:-1], 1) if moved.ndim > 1 else step
        return moved

    def _projection(self, shape: tuple[int, ...], copy: int) -> np.ndarray:
        if (shape, copy) not in self._cache:
            columns = int(np.prod(shape[:-1] if len(shape) > 1 else shape))
            self._cache[shape, copy] = standard_normal(
                self.key, self.purpose("projection", shape, copy), (self.num_bits, columns)
            )
        return self._cache[shape, copy]
