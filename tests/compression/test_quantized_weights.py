"""Integers and scales read from weights are exact, and found only where they are."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_secure.compression import quantized_weights
from keras_secure.compression.kernels import einsum_axes, model_kernels
from keras_secure.compression.quantized_weights import bits_of, factor


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 8),
    st.integers(1, 5),
    st.integers(1, 40),
    st.integers(0, 2**31),
    st.integers(0, 1),
)
def test_any_integers_times_scales_are_found(bits, channels, size, seed, axis):
    rng = np.random.default_rng(seed)
    integers = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (channels, size)).astype(np.int8)
    scale = np.exp(rng.normal(-4, 2, (channels, 1))).astype(np.float32)
    weights = integers.astype(np.float32) * scale
    if axis == 1:
        weights = weights.T.copy()
    found = factor(weights, axis)
    assert found is not None
    assert found.values.dtype == np.int8
    assert found.scale.dtype == np.float32
    assert (found.scale > 0).all()
    assert found.bits <= bits
    assert found.bits == bits_of(found.values)
    np.testing.assert_array_equal(found.kernel().view(np.int32), weights.view(np.int32))


def test_one_value_off_by_one_bit_is_no_quantized_weight():
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (64, 4)).astype(np.float32) * np.float32([0.01, 0.3, 2, 0.07])
    assert factor(weights, 1) is not None
    weights[5, 2] = np.nextafter(weights[5, 2], np.float32(9))
    assert factor(weights, 1) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.0])
def test_what_no_integer_is_is_refused(bad):
    weights = np.float32([[1.0, 2.0], [3.0, 4.0]])
    assert factor(weights, 1) is not None
    weights[0, 0] = bad
    assert factor(weights, 1) is None


def test_random_floats_are_not_quantized():
    weights = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    assert factor(weights, 1) is None
    assert factor(np.zeros((4, 2), "float32"), 1).scale.tolist() == [[1.0, 1.0]]


def test_kernels_and_their_axes():
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(3, 3, name="conv")(inputs)
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
    x = keras.layers.Conv2DTranspose(5, 3, name="transposed")(x)
    x = keras.layers.SeparableConv2D(4, 3, name="separable")(x)
    x = keras.layers.Reshape((8, 8))(x)
    x = keras.layers.EinsumDense("abc,cde->abde", (None, 2, 3), name="einsum")(x)
    model = keras.Model(inputs, keras.layers.Dense(7, name="top")(x))
    axes = {path.removesuffix("/kernel"): k.axis for path, k in model_kernels(model).items()}
    assert axes == {
        "conv": 3,
        "depthwise": 2,
        "transposed": 2,
        "separable/depthwise_kernel": 2,
        "separable/pointwise_kernel": 3,
        "einsum": 2,
        "top": 1,
    }
    assert einsum_axes("abc,cde->abde") == (2, 0)
    assert einsum_axes("abc,bcd->abd") == (2, 1)
    assert einsum_axes("...x,xy->...y") == (1, 0)
    assert quantized_weights(model) == {}


def test_it_survives_saving_and_loading(tmp_path):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, name="top")])
    kernel = model.layers[0].kernel
    integers = np.random.default_rng(1).integers(-8, 8, (6, 4))
    kernel.assign(integers.astype("float32") * np.float32(0.037))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    (found,) = quantized_weights(loaded).values()
    np.testing.assert_array_equal(found.kernel(), np.asarray(kernel))
    assert found.bits <= 4
    assert found.axis == 1
