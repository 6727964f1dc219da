"""The key behind the noise: from the operating system's entropy, never saved, never copied."""

import hashlib
import itertools
import math
import os

import numpy as np
from keras import ops

from keras_secure import backend

_LINE = 16


class NoiseSource:
    """Gaussian noise under a key that stays in this process.

    The noise is a pure function of the key and a position, so all replicas of a step draw the same
    values: one draw for the global batch.

    Args:
        seed: None takes the key from the operating system. An int makes the noise repeatable, and
            whoever knows the seed can subtract it: not private.
        secure: False draws from a generator that is statistically sound but not cryptographic,
            under 128 bits of key; True from ChaCha20 under 256 bits, every value being the sum of
            four draws.
    """

    # No tracking by Keras or TensorFlow reaches a plain object, so no checkpoint holds the key.
    __slots__ = ("_key", "_secure", "_seed")

    def __init__(self, seed=None, secure=False):
        self._seed, self._secure = seed, secure
        self._key = None
        self.renew()

    def renew(self):
        """Takes a new key, so that positions used before are safe to use again."""
        if self._seed is None:
            entropy = os.urandom(32)
        else:
            entropy = hashlib.sha256(f"keras_secure noise {self._seed}".encode()).digest()
        if not self._secure:
            entropy = entropy[:16]
        words = np.frombuffer(entropy, dtype=np.int64).copy()
        if self._key is None:
            self._key = backend.state_variable(words)
        else:
            self._key.assign(words)

    def build(self, size):
        """Prepares for draws of up to `size` values; nothing to do for independent noise."""

    def restart(self, planned_steps=None):
        """Begins a phase of steps; nothing to do for independent noise."""

    def normal(self, shapes, stddev, step, allowed=True):
        """Draws float32 normal tensors.

        Args:
            shapes: Static shapes, one per tensor.
            stddev: Scalar standard deviation.
            step: int64 scalar, never used twice under one key.
            allowed: Scalar bool; false if the draw will not be released, and comes again.

        Returns:
            A list of tensors.
        """
        sizes = [math.prod(shape) for shape in shapes]
        flat = self.draw(self.drawn_size(sum(sizes)), stddev, step, allowed)
        ends = list(itertools.accumulate(sizes))
        parts = [flat[end - size : end] for size, end in zip(sizes, ends, strict=True)]
        return [ops.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]

    def draw(self, size, stddev, step, allowed=True):
        """Draws a float32 tensor of shape (size,); see `normal`."""
        generator = backend.secure_normal if self._secure else backend.normal
        return generator(size, stddev, self._key, step)

    @staticmethod
    def drawn_size(size):
        """A whole number of cache lines, from which TensorFlow takes parts without copying them."""
        return -(-size // _LINE) * _LINE

    def __repr__(self):
        return f"{type(self).__name__}(key hidden)"

    def __deepcopy__(self, memo):
        return NoiseSource(self._seed, self._secure)

    def __reduce__(self):
        return NoiseSource, (self._seed, self._secure)
