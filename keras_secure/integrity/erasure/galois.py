"""The field with 65,536 elements, in a form that makes multiplications cheap to spell as XORs.

An element is an integer below 2^16. Addition is XOR. Multiplication is Conway's of nimbers: the
field is a tower of quadratic extensions, `X^2 = X + d` with `d` the top bit of the field below, so
elements below 256 form GF(2^8), those below 16 GF(2^4), and a product by one of these never mixes
the two halves, or the four quarters, of an element's bits.

Reference:
    J. H. Conway, On Numbers and Games (1976), chapter 6; D. G. Cantor, On arithmetical algorithms
    over finite fields (1989), for the basis that `point` counts along.
"""

import functools

import numpy as np

BITS = 16
ORDER = 2**BITS - 1

# The smallest element whose powers are all elements but 0.
_GENERATOR = 258


def multiply(a, b):
    """Products of field elements.

    Args:
        a: Integers below 2^16, of any shape.
        b: The same, of a shape that broadcasts with that of `a`.

    Returns:
        uint16 array of the products.

    Example:

    >>> int(multiply(2, 3)), int(multiply(16, 16)), int(multiply(500, inverse(500)))
    (1, 24, 1)
    """
    powers, logarithms = _tables()
    a, b = np.asarray(a), np.asarray(b)
    product = powers[(logarithms[a] + logarithms[b]) % ORDER]
    return np.where((a == 0) | (b == 0), np.uint16(0), product)


def inverse(a):
    """Reciprocals of field elements.

    Args:
        a: Integers from 1 to 2^16 - 1, of any shape.

    Returns:
        uint16 array of the reciprocals.

    Raises:
        ZeroDivisionError: One of them is 0.
    """
    powers, logarithms = _tables()
    a = np.asarray(a)
    if not np.all(a):
        raise ZeroDivisionError("0 has no reciprocal in GF(2^16).")
    return powers[-logarithms[a] % ORDER]


def product(a, axis):
    """Products of field elements along an axis.

    Args:
        a: Integers from 1 to 2^16 - 1.
        axis: The axis to take away.

    Returns:
        uint16 array.
    """
    powers, logarithms = _tables()
    return powers[logarithms[np.asarray(a)].sum(axis=axis) % ORDER]


def point(index):
    """The `index`-th element in the order of Cantor's basis: the XOR of the basis at its bits.

    The map `x -> x^2 + x` takes point `v` to point `v >> 1`, which is what the additive Fourier
    transform lives on.

    Args:
        index: Integers below 2^16, of any shape.

    Returns:
        uint16 array.

    Example:

    >>> int(point(1)), int(multiply(point(6), point(6)) ^ point(6)) == int(point(3))
    (1, True)
    """
    index = np.asarray(index)
    result = np.zeros(index.shape, np.uint16)
    for bit, element in enumerate(_cantor_basis()):
        result = result ^ np.where(index >> bit & 1, np.uint16(element), np.uint16(0))
    return result


def bit_rows(elements):
    """Multiplication by an element as a matrix over GF(2).

    Args:
        elements: Integers below 2^16, of any shape.

    Returns:
        uint16 array with one more axis, of length 16: bit `i` of entry `o` says whether bit `o` of
        a product takes bit `i` of what is multiplied.
    """
    columns = multiply(np.asarray(elements)[..., None], 1 << np.arange(BITS))
    bits = columns[..., None, :] >> np.arange(BITS)[:, None] & 1
    return (bits.astype(np.uint32) << np.arange(BITS)).sum(axis=-1).astype(np.uint16)


def nim_multiply(a, b, bits=BITS):
    """The product by its definition, level by level of the tower; slow, and what tables rest on.

    Args:
        a: Integer below 2^bits.
        b: The same.
        bits: 1, 2, 4, 8 or 16.

    Returns:
        The product.
    """
    if bits == 1:
        return a & b
    half = bits // 2
    mask = (1 << half) - 1
    a_high, a_low, b_high, b_low = a >> half, a & mask, b >> half, b & mask
    high = nim_multiply(a_high, b_high, half)
    low = nim_multiply(a_low, b_low, half)
    both = nim_multiply(a_high ^ a_low, b_high ^ b_low, half)
    return (both ^ low) << half | low ^ nim_multiply(high, 1 << half - 1, half)


@functools.cache
def _tables():
    """Powers of a generator, and logarithms (that of 0 is 0 and means nothing)."""
    powers = np.ones(2**BITS, np.int64)
    length, factor = 1, _GENERATOR
    while length < len(powers):
        powers[length : 2 * length] = _scale(powers[:length], factor)
        length, factor = 2 * length, nim_multiply(factor, factor)
    logarithms = np.zeros(2**BITS, np.int64)
    logarithms[powers[:ORDER]] = np.arange(ORDER)
    return powers[:ORDER].astype(np.uint16), logarithms


def _scale(elements, factor):
    result = np.zeros_like(elements)
    for bit in range(BITS):
        result ^= np.where(elements >> bit & 1, nim_multiply(factor, 1 << bit), 0)
    return result


@functools.cache
def _cantor_basis():
    # The top bit is the trace, so 2^15 stands at the end of the chain of x -> x^2 + x, and 1 at
    # its start.
    basis = [1 << BITS - 1]
    while len(basis) < BITS:
        basis.append(nim_multiply(basis[-1], basis[-1]) ^ basis[-1])
    return tuple(reversed(basis))
