"""Noise that is correlated over steps, so that errors of the weights cancel in part."""

from typing import Any

import numpy as np
from keras import ops

from keras_secure import backend
from keras_secure.privacy.matrix_factorization import (
    banded_coefficients,
    square_root_coefficients,
)
from keras_secure.privacy.noise import NoiseSource


class BandedNoise(NoiseSource):
    """Gaussian noise of the banded matrix mechanism (BandMF).

    Step t releases row t of C^-1 z, where z is independent noise and C the lower triangular
    Toeplitz matrix of `privacy.matrix_factorization`: what the step drew, less its correlation with
    the `bands - 1` releases before. Those are kept in memory and nowhere else: they are the noise
    of weights that may have been published. So after a restart, or when a checkpoint is loaded, the
    recursion starts anew, as a phase of its own.

    Args:
        bands: How many steps the columns of C span; at least 2.
        seed: See `NoiseSource`.
        secure: See `NoiseSource`.

    Reference: Choquette-Choo et al. 2023, (Amplified) Banded Matrix Factorization
    (arXiv 2306.08153).
    """

    __slots__ = ("_bands", "_coefficients", "_past")

    def __init__(self, bands, seed=None, secure=False):
        self._bands = bands
        self._coefficients = backend.state_variable(_row(square_root_coefficients(bands)))
        self._past: Any = None
        super().__init__(seed, secure)

    def build(self, size):
        """Creates the memory of past releases: `bands - 1` times the size of the model.

        Args:
            size: How many values one step draws at most.
        """
        if self._past is None:
            size = self.drawn_size(size)
            self._past = backend.state_variable(np.zeros((self._bands - 1, size), "float32"))

    def restart(self, planned_steps=None):
        """Begins a phase: forgets the past and fits the correlation to the number of steps.

        Args:
            planned_steps: How many steps the phase is likely to have. None takes the square root
                of the prefix sums, which needs no number.
        """
        if planned_steps is None:
            coefficients = square_root_coefficients(self._bands)
        else:
            coefficients = banded_coefficients(self._bands, planned_steps)
        self._coefficients.assign(_row(coefficients))
        self._forget()

    def renew(self):
        """See `NoiseSource`; forgets the past with the key."""
        super().renew()
        self._forget()

    def draw(self, size, stddev, step, allowed=True):
        """See `NoiseSource`."""
        self.build(size)
        width = self._past.shape[1]
        row = ops.convert_to_tensor(self._coefficients)
        past = ops.convert_to_tensor(self._past)
        fresh = super().draw(width, 1.0, step)
        released = (fresh - ops.matmul(row[:, 1:], past)[0]) / row[0, 0]
        moved = ops.concatenate([released[None], past[:-1]], axis=0)
        # A step that the budget forbids releases nothing, and its draw may come again.
        self._past.assign(ops.where(allowed, moved, past))
        return released[:size] * stddev

    def _forget(self):
        if self._past is not None:
            self._past.assign(np.zeros(self._past.shape, "float32"))

    def __deepcopy__(self, memo):
        return BandedNoise(self._bands, self._seed, self._secure)

    def __reduce__(self):
        return BandedNoise, (self._bands, self._seed, self._secure)


def _row(coefficients):
    return np.asarray(coefficients, dtype="float32")[None]
