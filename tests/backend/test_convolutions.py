"""The fast gradient of a convolution by its inputs is TensorFlow's own, to rounding."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_secure import backend


def both(inputs, kernel, strides, padding, jit_compile=False):
    def pull(convolve, inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = convolve(inputs)
            # Every output counts differently, so that none can stand for another.
            value = tf.reduce_sum(outputs * np.random.default_rng(1).normal(size=outputs.shape))
        return outputs, tape.gradient(value, inputs)

    ours = tf.function(
        lambda x: pull(lambda v: backend.convolution_by_inputs(v, kernel, strides, padding), x),
        jit_compile=jit_compile,
    )(inputs)
    plain = pull(lambda v: tf.nn.conv2d(v, kernel, strides, padding.upper()), inputs)
    return ours, plain


def check(shape, taps, filters, stride, padding, **options):
    rng = np.random.default_rng(sum(shape))
    inputs = tf.constant(rng.normal(size=shape).astype("float32"))
    kernel = tf.constant(rng.normal(size=(*taps, shape[-1], filters)).astype("float32"))
    ours, plain = both(inputs, kernel, (stride, stride), padding, **options)
    for found, expected in zip(ours, plain, strict=True):
        assert found.shape == expected.shape
        size = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=4e-6 * max(size, 1e-3))


NETWORKS = [
    ((3, 28, 28, 1), (4, 4), 16, 2, "same"),
    ((3, 28, 28, 1), (8, 8), 16, 2, "same"),
    ((2, 32, 32, 3), (3, 3), 32, 1, "same"),
    ((2, 64, 64, 3), (7, 7), 8, 2, "same"),
    ((2, 55, 55, 3), (11, 11), 8, 4, "valid"),
    ((2, 8, 8, 1), (3, 3), 16, 1, "valid"),
    ((2, 32, 32, 3), (3, 3), 64, 1, "same"),
    ((2, 14, 14, 16), (4, 4), 32, 2, "same"),
    ((2, 15, 15, 8), (3, 3), 16, 2, "valid"),
]


@pytest.mark.parametrize("case", NETWORKS)
def test_first_layers_of_known_networks(case):
    check(*case)


@settings(max_examples=60, deadline=None)
@given(
    space=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    taps=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    channels=st.integers(1, 4),
    filters=st.sampled_from([3, 50]),
    stride=st.integers(1, 5),
    padding=st.sampled_from(["same", "valid"]),
)
def test_any_shape(space, taps, channels, filters, stride, padding):
    if padding == "valid":
        taps = tuple(min(tap, size) for tap, size in zip(taps, space, strict=True))
    check((2, *space, channels), taps, filters, stride, padding)


def test_compiled_and_with_a_batch_of_any_size():
    # One of each form: with few filters every output's parts would be more than is gathered.
    for filters in (5, 64):
        check((3, 9, 9, 2), (4, 4), filters, 2, "same", jit_compile=True)
    kernel = tf.random.stateless_normal((4, 4, 1, 5), [0, 1])

    @tf.function(input_signature=[tf.TensorSpec((None, 9, 9, 1))])
    def pulled(inputs):
        return backend.input_gradient(
            lambda x: tf.reduce_sum(
                tf.square(backend.convolution_by_inputs(x, kernel, (2, 2), "same"))
            ),
            inputs,
        )[1]

    rows = tf.random.stateless_normal((5, 9, 9, 1), [2, 3])
    whole = pulled(rows)
    for start, stop in itertools.pairwise((0, 1, 5)):
        np.testing.assert_allclose(pulled(rows[start:stop]), whole[start:stop], rtol=1e-5)
