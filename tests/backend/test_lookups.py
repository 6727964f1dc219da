"""Lookups in tables, and what a graph tells of a tensor before it runs."""

import numpy as np
import pytest
import tensorflow as tf

from keras_secure import backend


@pytest.mark.parametrize("jit_compile", [False, True])
def test_places_and_counts(jit_compile):
    indices = np.random.default_rng(0).integers(0, 6, (4, 9)).astype("int32")

    def both(indices):
        ordered = tf.sort(indices, axis=1)
        return backend.first_places(ordered, indices), backend.row_counts(indices, 8)

    places, counts = backend.compiled(both, jit_compile=jit_compile)(tf.constant(indices))
    for row, place, count in zip(indices, places.numpy(), counts.numpy(), strict=True):
        assert place.tolist() == [sorted(row).index(value) for value in row]
        np.testing.assert_array_equal(count, np.bincount(row, minlength=8))


CASES = {
    "pooled": (lambda x: tf.tile(x[:, :1], (1, 5, 1)) / 5.0, True),
    "broadcast": (lambda x: tf.broadcast_to(x[:, :1], tf.shape(x)), True),
    "scaled": (lambda x: tf.cast(tf.tile(x[:, :1], (1, 5, 1)), "float64") * 2.0, True),
    "reshaped in place": (lambda x: tf.reshape(tf.tile(x[:, :1], (1, 5, 1)), (-1, 5, 3)), True),
    "input": (lambda x: x, False),
    "masked": (lambda x: tf.tile(x[:, :1], (1, 5, 1)) * x[:, :, :1], False),
    "reshaped": (lambda x: tf.reshape(tf.tile(x[:, :1], (1, 3, 1)), (-1, 3, 3))[:, :, :2], False),
    "mixed": (lambda x: tf.reshape(tf.tile(x[:, :, :1], (1, 1, 3)), (-1, 3, 5)), False),
    "unknown operation": (lambda x: tf.sort(tf.tile(x[:, :1], (1, 5, 1)), axis=1), False),
}


@pytest.mark.parametrize("case", CASES)
def test_evenness_is_read_from_the_graph_and_never_claimed_wrongly(case):
    make, expected = CASES[case]
    found = []

    @tf.function(input_signature=[tf.TensorSpec((None, 5, 3), "float32")], autograph=False)
    def graph(x):
        tensor = make(x)
        found.append(backend.is_even(tensor, axis=1))
        return tensor

    values = graph(np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")).numpy()
    assert found == [expected]
    if expected:
        np.testing.assert_array_equal(values, np.broadcast_to(values[:, :1], values.shape))


def test_evenness_follows_the_gradient_of_pooling():
    import keras

    pool, found = keras.layers.GlobalAveragePooling1D(), []

    @tf.function(autograph=False)
    def graph(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(tf.square(pool(x)))
        found.append(backend.is_even(tape.gradient(total, x), axis=1))

    graph(tf.ones((2, 5, 3)))
    assert found == [True]


def test_evenness_is_not_known_when_values_flow_at_once():
    assert not backend.is_even(tf.ones((2, 5, 3)), axis=1)
