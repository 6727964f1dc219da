"""Factored per-example gradients against the gradients written out in full."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_secure import backend
from keras_secure.privacy.contributions import Materialized, OuterProducts, Rows
from keras_secure.privacy.convolution_products import ConvolutionProducts
from keras_secure.privacy.rules import convolution

RNG = np.random.default_rng(0)


def rows_in_full(indices, grads, num_rows):
    full = np.zeros((len(indices), num_rows, grads.shape[-1]))
    for example, (taken, given) in enumerate(zip(indices, grads, strict=True)):
        np.add.at(full[example], taken, given)
    return full


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("num_rows", [7, 1000])
@pytest.mark.parametrize("is_pooled", [False, True])
def test_rows(is_pooled, num_rows, jit_compile):
    """With few rows gradients that pooling spreads are counted, otherwise they are summed."""
    indices = RNG.integers(0, 7, (5, 9)).astype("int32")
    grads = RNG.normal(size=(5, 1 if is_pooled else 9, 4)).astype("float32")
    weights, counted = RNG.random(5).astype("float32"), []

    def both(indices, grads, weights):
        spread = ops.tile(grads, (1, 9, 1)) / 9.0 if is_pooled else grads / 9.0
        rows = Rows(indices, spread, num_rows)
        counted.append(rows.counts is not None)
        return rows.squared_norms(), rows.weighted_sum(weights), rows.weighted_sum(weights)

    squared, total, again = backend.compiled(both, jit_compile=jit_compile)(indices, grads, weights)
    assert counted == [is_pooled and num_rows == 7]
    full = rows_in_full(indices, np.broadcast_to(grads / 9.0, (5, 9, 4)), num_rows)
    np.testing.assert_allclose(squared, np.sum(full**2, axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(total, np.tensordot(weights, full, 1), atol=1e-5)
    np.testing.assert_array_equal(total, again)


def test_rows_summed_before_their_norms_were_taken():
    indices = RNG.integers(0, 4, (3, 6)).astype("int32")
    grads = RNG.normal(size=(3, 6, 2)).astype("float32")
    total = Rows(indices, ops.convert_to_tensor(grads), 4).weighted_sum(ops.ones(3))
    expected = rows_in_full(indices, grads, 4).sum(axis=0)
    np.testing.assert_allclose(total, expected, atol=1e-5)


def test_a_bias_shares_what_its_kernel_has_measured():
    inputs = RNG.normal(size=(4, 1, 1, 3)).astype("float32")
    grads = RNG.normal(size=(4, 1, 1, 5)).astype("float32")
    kernel = OuterProducts(ops.convert_to_tensor(inputs), ops.convert_to_tensor(grads), lambda t: t)
    bias = Materialized(grads[:, 0, 0], kernel.grad_lengths)
    lengths = np.sum(grads**2, axis=(1, 2, 3))
    np.testing.assert_allclose(bias.squared_norms(), lengths, rtol=1e-6)
    both = lengths * np.sum(inputs**2, axis=(1, 2, 3))
    np.testing.assert_allclose(kernel.squared_norms(), both, rtol=1e-6)


@pytest.mark.parametrize(
    ("layer", "space"),
    [
        (keras.layers.Conv1D(3, 3, padding="causal", dilation_rate=2), (9,)),
        (keras.layers.Conv2D(3, (4, 3), strides=2, padding="same"), (9, 7)),
        (keras.layers.Conv2D(40, 2, padding="valid"), (3, 3)),
        (keras.layers.Conv3D(2, 2, strides=(1, 2, 1), padding="same"), (3, 4, 3)),
    ],
)
def test_convolution_products(layer, space):
    """Norms and sums against one ordinary gradient per example, in both ways that norms take."""
    x = RNG.normal(size=(4, *space, 20)).astype("float32")
    grads = RNG.normal(size=layer.compute_output_shape(x.shape)).astype("float32")
    layer.build(x.shape)

    def ordinary(x, dz):
        def run(kernel):
            mapping = [(layer.kernel, kernel), (layer.bias, ops.zeros_like(layer.bias))]
            with keras.StatelessScope(state_mapping=mapping):
                return layer.call(x)

        return np.asarray(backend.pulled_back(run, ops.zeros(layer.kernel.shape), dz))

    full = np.stack([ordinary(x[[i]], grads[[i]]) for i in range(4)])
    calls = [(ops.convert_to_tensor(x), ops.convert_to_tensor(grads))]
    (_, kernel), _ = convolution.convolution(layer, calls)
    assert type(kernel) is ConvolutionProducts
    weights = RNG.random(4).astype("float32")
    expected = np.tensordot(weights, full, 1)
    np.testing.assert_allclose(kernel.weighted_sum(weights), expected, atol=1e-4)
    squares = np.sum(full**2, axis=tuple(range(1, full.ndim)))
    np.testing.assert_allclose(kernel.squared_norms(), squares, rtol=1e-5)
    np.testing.assert_allclose(kernel.weighted_sum(weights), expected, atol=1e-4)
    np.testing.assert_allclose(
        kernel.as_outer_products().squared_norms() if len(kernel.factors) == 2 else squares,
        squares,
        rtol=1e-5,
    )
