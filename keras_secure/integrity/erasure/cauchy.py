"""Parity as a Cauchy matrix over GF(2^16): any m parity rows make up for any m missing data rows.

Parity row `j` is the sum over data rows `i` of `scale_i / (x_i + y_j)` times row `i`, with all `x`
and `y` different. Every square piece of such a matrix is invertible, which is the whole guarantee.
The points and scales are those that the additive Fourier transform of `additive_fft.py` computes
with, so nobody multiplies by the matrix but to solve for a few missing rows.

`width`, a power of two and at least the number of parity rows, says where points of data begin.

Reference:
    J. Blömer et al., An XOR-Based Erasure-Resilient Coding Scheme (ICSI TR-95-048, 1995).
"""

import numpy as np

from keras_secure.integrity.erasure import galois


def coefficients(parity, data, width):
    """The entries of the matrix for some parity and data rows.

    Args:
        parity: Indices of parity rows, each below `width`.
        data: Indices of data rows.
        width: Number of parity points, a power of two.

    Returns:
        uint16 array of shape (parity rows, data rows).

    Example:

    >>> coefficients([0], [0, 1, 2], width=1).tolist()
    [[1, 1, 1]]
    """
    sums = galois.point(parity)[:, None] ^ _data_points(data, width)
    return galois.multiply(galois.inverse(sums), _scales(data, width))


def solution(parity, data, width):
    """The matrix that turns sums over missing data rows back into these rows.

    Args:
        parity: Indices of as many parity rows as data rows are missing, no index twice.
        data: Indices of the missing rows, no index twice.
        width: Number of parity points, a power of two.

    Returns:
        uint16 array of shape (data rows, parity rows), the inverse of `coefficients`.

    Example:

    >>> solution([1], [5], 2).tolist() == galois.inverse(coefficients([1], [5], 2)).tolist()
    True

    Reference:
        S. Schechter, On the inversion of certain matrices (1959): Cauchy's in closed form.
    """
    x, y = _data_points(data, width), galois.point(parity)
    sums = x[:, None] ^ y
    of_rows, of_columns = galois.product(sums, axis=1), galois.product(sums, axis=0)
    of_rows = galois.multiply(of_rows, galois.inverse(_products_of_differences(x)))
    of_rows = galois.multiply(of_rows, galois.inverse(_scales(data, width)))
    of_columns = galois.multiply(of_columns, galois.inverse(_products_of_differences(y)))
    return galois.multiply(
        galois.inverse(sums), galois.multiply(of_rows[:, None], of_columns[None, :])
    )


def _data_points(data, width):
    return galois.point(width + np.asarray(data))


def _scales(data, width):
    return galois.point(1 + np.asarray(data) // width)


def _products_of_differences(points):
    differences = points[:, None] ^ points
    np.fill_diagonal(differences, 1)
    return galois.product(differences, axis=1)
