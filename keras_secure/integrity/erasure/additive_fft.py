"""The additive Fourier transform: polynomials over GF(2^16) between values and coefficients.

Rows are in the form of `bit_slices`. On 2^r rows a transform takes r rounds of half as many
products as there are rows, where the matrix would take one for each pair.

Parity rows are the values, at points 0, 1, ..., of the sum of the polynomials that run through the
data rows, block by block of 2^r. The polynomial through one block is Lagrange's, and at point `y`
it takes row `x` times `s(y + x) / (y + x)`, with `s` the polynomial that vanishes on the first 2^r
points. `s` is additive, so the numerator is `s(x)`, one number for the block: the entries of
`cauchy.coefficients`.

Reference:
    S.-J. Lin, W.-H. Chung, Y. S. Han, Novel Polynomial Basis and Its Application to Reed-Solomon
    Erasure Codes (FOCS 2014), sections III to V.
"""

import numpy as np

from keras_secure.integrity.erasure import galois
from keras_secure.integrity.erasure.bit_slices import multiply_add


def interpolate(rows, start):
    """Turns values at consecutive points into coefficients, in place.

    Args:
        rows: uint64 array of shape (16, count, words), `count` a power of two.
        start: Index of the first point, a multiple of `count`.
    """
    for level in range(_num_levels(rows)):
        for low, high, factor in _butterflies(rows, start, level):
            np.bitwise_xor(high, low, out=high)
            if factor:
                multiply_add(low, high, factor)


def evaluate(rows, start):
    """Turns coefficients into values at consecutive points, in place: `interpolate`, backwards.

    Args:
        rows: uint64 array of shape (16, count, words), `count` a power of two.
        start: Index of the first point, a multiple of `count`.
    """
    for level in reversed(range(_num_levels(rows))):
        for low, high, factor in _butterflies(rows, start, level):
            if factor:
                multiply_add(low, high, factor)
            np.bitwise_xor(high, low, out=high)


def _num_levels(rows):
    return rows.shape[1].bit_length() - 1


def _butterflies(rows, start, level):
    """Yields the two halves of each run of rows, and the factor between them."""
    half, count = 1 << level, rows.shape[1]
    firsts = range(0, count, 2 * half)
    factors = galois.point((start + np.arange(0, count, 2 * half)) >> level).tolist()
    for first, factor in zip(firsts, factors, strict=True):
        yield rows[:, first : first + half], rows[:, first + half : first + 2 * half], factor
