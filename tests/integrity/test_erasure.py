"""The code behind parity: a field, a matrix whose pieces are invertible, and its fast transform."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_secure.integrity.erasure import additive_fft, bit_slices, cauchy, galois, stripes

elements = st.integers(0, 2**16 - 1)
units = st.integers(1, 2**16 - 1)


def mex_products(size):
    """Nim products by Conway's definition, which knows nothing of fields or towers."""
    table = [[0] * size for _ in range(size)]
    for a, b in itertools.product(range(size), repeat=2):
        excluded = {table[x][b] ^ table[a][y] ^ table[x][y] for x in range(a) for y in range(b)}
        table[a][b] = next(value for value in itertools.count() if value not in excluded)
    return table


def polynomial_product(a, b, modulus=0x1100B):
    """Product of polynomials over GF(2) modulo x^16 + x^12 + x^3 + x + 1, bit by bit."""
    result = 0
    for bit in range(16):
        if b >> bit & 1:
            result ^= a << bit
    for bit in range(31, 15, -1):
        if result >> bit & 1:
            result ^= modulus << (bit - 16)
    return result


@pytest.fixture(scope="module")
def isomorphism():
    """Images of 1, x, ..., x^15: powers of a root, in our field, of the polynomial above."""
    every = np.arange(2**16)
    powers = {1: every}
    for exponent in range(2, 17):
        powers[exponent] = galois.multiply(powers[exponent - 1], every)
    roots = every[(powers[16] ^ powers[12] ^ powers[3] ^ every ^ 1) == 0]
    assert len(roots) == 16
    return [1] + [int(powers[exponent][roots[0]]) for exponent in range(1, 16)]


def to_elements(rows):
    """Field elements of bit-sliced rows, shape (rows, 64 * words)."""
    bits = np.unpackbits(rows.view(np.uint8), axis=-1, bitorder="little").astype(np.uint16)
    return sum(bits[bit] << bit for bit in range(16)).astype(np.uint16)


def random_rows(seed, count, words=2):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 2**64, (16, count, words), dtype=np.uint64)


def slow_matrix_product(matrix, rows):
    result = np.zeros((matrix.shape[0], rows.shape[1]), np.uint16)
    for i, j in itertools.product(*map(range, matrix.shape)):
        result[i] ^= galois.multiply(matrix[i, j], rows[j])
    return result


def test_products_below_16_are_those_of_the_definition_by_least_excluded_numbers():
    few = np.arange(16)
    np.testing.assert_array_equal(galois.multiply(few[:, None], few), mex_products(16))


@given(elements, elements)
def test_products_are_those_of_the_tower(a, b):
    assert galois.multiply(a, b) == galois.nim_multiply(a, b)


@given(elements, elements)
def test_products_are_those_of_polynomials_in_another_basis(isomorphism, a, b):
    def image(polynomial):
        return np.bitwise_xor.reduce(
            [power for bit, power in enumerate(isomorphism) if polynomial >> bit & 1] or [0]
        )

    assert galois.multiply(image(a), image(b)) == image(polynomial_product(a, b))


@given(elements, elements, elements)
def test_the_axioms_of_a_field(a, b, c):
    multiply = galois.multiply
    assert multiply(a, b) == multiply(b, a)
    assert multiply(multiply(a, b), c) == multiply(a, multiply(b, c))
    assert multiply(a, b ^ c) == multiply(a, b) ^ multiply(a, c)
    assert multiply(a, 1) == a
    assert multiply(a, 0) == 0


def test_every_element_but_0_has_a_reciprocal():
    every = np.arange(1, 2**16)
    assert np.all(galois.multiply(every, galois.inverse(every)) == 1)
    with pytest.raises(ZeroDivisionError):
        galois.inverse([1, 0])


def test_powers_of_the_generator_are_all_elements_but_0():
    powers, logarithms = galois._tables()
    assert len(set(powers.tolist())) == 2**16 - 1
    assert np.all(powers[logarithms[1:]] == np.arange(1, 2**16))


@given(units, elements)
def test_a_matrix_of_bits_multiplies(a, b):
    rows = galois.bit_rows(a)
    product = sum((int(row) & b).bit_count() % 2 << bit for bit, row in enumerate(rows))
    assert product == galois.multiply(a, b)


def test_points_are_all_different_and_shift_under_the_additive_map():
    index = np.arange(2**16)
    points = galois.point(index)
    assert len(set(points.tolist())) == 2**16
    np.testing.assert_array_equal(
        galois.multiply(points, points) ^ points, galois.point(index >> 1)
    )


@given(units, st.integers(1, 5))
def test_a_product_in_bit_slices_is_the_product(factor, count):
    target, source = random_rows(1, count), random_rows(2, count)
    expected = to_elements(target) ^ galois.multiply(factor, to_elements(source))
    bit_slices.multiply_add(target, source, factor)
    np.testing.assert_array_equal(to_elements(target), expected)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
@settings(max_examples=25)
def test_a_matrix_times_bit_slices(rows, columns, seed):
    matrix = np.random.default_rng(seed).integers(0, 2**16, (rows, columns))
    source, target = random_rows(seed, columns), random_rows(seed + 1, rows)
    bit_slices.multiply_matrix(matrix, [source[:, j] for j in range(columns)], target)
    np.testing.assert_array_equal(
        to_elements(target), slow_matrix_product(matrix, to_elements(source))
    )


@given(st.integers(0, 4), st.integers(0, 9), st.integers(0, 99))
@settings(max_examples=25)
def test_transforms_are_inverse_to_each_other(level, block, seed):
    rows = random_rows(seed, 1 << level)
    before = rows.copy()
    additive_fft.interpolate(rows, block << level)
    additive_fft.evaluate(rows, block << level)
    np.testing.assert_array_equal(rows, before)


@pytest.mark.parametrize("width", [1, 2, 4, 16])
@pytest.mark.parametrize("num_blocks", [1, 3])
def test_the_transform_computes_the_matrix(width, num_blocks):
    sums, data = np.zeros((16, width, 2), np.uint64), []
    for block in range(num_blocks):
        rows = random_rows(block, width)
        data.append(to_elements(rows))
        additive_fft.interpolate(rows, width * (block + 1))
        sums ^= rows
    additive_fft.evaluate(sums, 0)
    matrix = cauchy.coefficients(np.arange(width), np.arange(width * num_blocks), width)
    np.testing.assert_array_equal(
        to_elements(sums), slow_matrix_product(matrix, np.concatenate(data))
    )


def test_interpolation_is_lagranges():
    """Coefficients of one block, evaluated in Lagrange's form at points outside of it."""
    width, start = 4, 8
    rows = random_rows(3, width)
    values = to_elements(rows)
    additive_fft.interpolate(rows, start)
    additive_fft.evaluate(rows, 0)
    x, y = galois.point(start + np.arange(width)), galois.point(np.arange(width))
    lagrange = np.ones((width, width), np.uint16)
    for j, i, other in itertools.product(range(width), repeat=3):
        if other != i:
            ratio = galois.multiply(y[j] ^ x[other], galois.inverse(x[i] ^ x[other]))
            lagrange[j, i] = galois.multiply(lagrange[j, i], ratio)
    np.testing.assert_array_equal(to_elements(rows), slow_matrix_product(lagrange, values))


@given(st.data())
@settings(max_examples=40)
def test_every_square_piece_of_the_matrix_has_the_inverse_that_is_stated(data):
    width = data.draw(st.sampled_from([1, 2, 8, 64]))
    size = data.draw(st.integers(1, min(width, 9)))
    parity = data.draw(
        st.lists(st.integers(0, width - 1), min_size=size, max_size=size, unique=True)
    )
    missing = data.draw(st.lists(st.integers(0, 60000), min_size=size, max_size=size, unique=True))
    product = slow_matrix_product(
        cauchy.solution(parity, missing, width), cauchy.coefficients(parity, missing, width)
    )
    np.testing.assert_array_equal(product, np.eye(size))


@given(st.integers(1, 200_000), st.integers(4, 1000))
def test_stripes_hold_every_shard_once_within_the_field(num_data, num_parity):
    dealt = stripes.deal_stripes(num_data, num_parity)
    assert sorted(i for stripe in dealt for i in stripe.data) == list(range(num_data))
    assert sorted(i for stripe in dealt for i in stripe.parity) == list(range(num_parity))
    for stripe in dealt:
        assert len(stripe.parity) <= stripe.width <= 128
        assert stripe.width + len(stripe.data) <= 2**16


def test_a_burst_of_damage_is_shared_by_all_stripes():
    dealt = stripes.deal_stripes(5000, 500)
    burst = set(range(1000, 1500))
    assert len(dealt) == 4
    assert all(len(burst & set(stripe.data)) == 125 for stripe in dealt)
