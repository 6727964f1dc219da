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
    values: one draw for the global batch. The generator is Philox, whose output is statistically
    sound but not cryptographic.

    Args:
        seed: None takes 128 bits from the operating system. An int makes the noise repeatable, and
            whoever knows the seed can subtract it: not private.
    """

    # No tracking by Keras or TensorFlow reaches a plain object, so no checkpoint holds the key.
    __slots__ = ("_key", "_seed")

    def __init__(self, seed=None):
        self._seed = seed
        self._key = None
        self.renew()

    def renew(self):
        """Takes a new key, so that positions used before are safe to use again."""
        if self._seed is None:
            entropy = os.urandom(16)
        else:
            entropy = hashlib.sha256(f"keras_secure noise {self._seed}".encode()).digest()[:16]
        words = np.frombuffer(entropy, dtype=np.int64).copy()
        if self._key is None:
            self._key = backend.state_variable(words)
        else:
            self._key.assign(words)

    def normal(self, shapes, stddev, step):
        """Draws float32 normal tensors.

        Args:
            shapes: Static shapes, one per tensor.
            stddev: Scalar standard deviation.
            step: int64 scalar, never used twice under one key.

        Returns:
            A list of tensors.
        """
        sizes = [math.prod(shape) for shape in shapes]
        # A whole number of cache lines, from which TensorFlow takes parts without copying them.
        flat = backend.normal(-(-sum(sizes) // _LINE) * _LINE, stddev, self._key, step)
        ends = list(itertools.accumulate(sizes))
        parts = [flat[end - size : end] for size, end in zip(sizes, ends, strict=True)]
        return [ops.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]

    def __repr__(self):
        return "NoiseSource(key hidden)"

    def __deepcopy__(self, memo):
        return NoiseSource(self._seed)

    def __reduce__(self):
        return NoiseSource, (self._seed,)
