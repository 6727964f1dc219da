"""BPDA: the layer's answers to the last bit, the stand-in's gradients."""

import keras
import numpy as np
import pytest
from harness_layers import run_layer_harness
from keras import ops

from keras_secure import backend
from keras_secure.errors import InputError
from keras_secure.layers import BPDA, FeatureSqueezing


@keras.saving.register_keras_serializable("test_bpda")
class Staircase(keras.layers.Layer):
    """Rounds to tenths; the derivative is zero wherever there is one."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs):
        return ops.round(10.0 * inputs) / 10.0

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("test_bpda")
def squared(inputs):
    return inputs**2


def gradient_of_sum(layer, x):
    return np.asarray(backend.input_gradient(lambda x: ops.sum(layer(x)), x)[1])


X = np.random.default_rng(0).random((4, 3)).astype("float32")


@pytest.mark.parametrize(
    "backward",
    ["identity", squared, keras.layers.Activation("tanh")],
    ids=["identity", "function", "layer"],
)
def test_bpda_is_a_layer(backward, tmp_path):
    # What precision it computes in is the wrapped layer's affair.
    kwargs = {"layer": Staircase(), "backward": backward}
    run_layer_harness(BPDA, kwargs, X, tmp_path, atol=1e-6, float16_dtype="float32")


def test_forward_is_the_layer_and_backward_the_stand_in():
    x = ops.convert_to_tensor(X)
    assert not gradient_of_sum(Staircase(), x).any()
    for backward, expected in (
        ("identity", np.ones_like(X)),
        (squared, 2 * X),
        (keras.layers.Activation("tanh"), 1 - np.tanh(X) ** 2),
    ):
        layer = BPDA(Staircase(), backward)
        np.testing.assert_array_equal(layer(x), Staircase()(x))
        np.testing.assert_allclose(gradient_of_sum(layer, x), expected, rtol=1e-5)


def test_a_stand_in_with_weights_and_another_shape_of_output():
    class Count(keras.layers.Layer):
        """How many entries exceed a half: (batch, 1)."""

        def call(self, inputs):
            return ops.sum(ops.cast(inputs > 0.5, "float32"), axis=1, keepdims=True)

        def compute_output_shape(self, input_shape):
            return (input_shape[0], 1)

    stand_in = keras.layers.Dense(1, use_bias=False)
    layer = BPDA(Count(), stand_in)
    np.testing.assert_array_equal(layer(X), (X > 0.5).sum(1, keepdims=True))
    gradient = gradient_of_sum(layer, ops.convert_to_tensor(X))
    np.testing.assert_allclose(gradient, np.tile(np.asarray(stand_in.kernel).T, (4, 1)), rtol=1e-6)
    with pytest.raises(InputError, match="shape"):
        BPDA(Count())(X)


def test_an_overflowing_stand_in_does_not_spoil_the_value():
    layer = BPDA(Staircase(), lambda x: ops.exp(1e4 * x))
    np.testing.assert_array_equal(layer(X), Staircase()(X))


def test_training_is_handed_on():
    layer = BPDA(keras.layers.Dropout(0.5, seed=0))
    x = np.ones((4, 50), "float32")
    assert (np.asarray(layer(x, training=True)) == 0).any()
    np.testing.assert_array_equal(layer(x, training=False), x)


def test_it_agrees_with_the_straight_through_gradient_of_feature_squeezing():
    x = ops.convert_to_tensor(X)
    straight = FeatureSqueezing(2)
    wrapped = BPDA(FeatureSqueezing(2, gradient="exact"))
    np.testing.assert_array_equal(wrapped(x), straight(x))
    np.testing.assert_array_equal(gradient_of_sum(wrapped, x), gradient_of_sum(straight, x))


def test_arguments_are_checked():
    with pytest.raises(InputError, match="Lambda"):
        BPDA(ops.round)
    with pytest.raises(InputError, match="backward='mean'"):
        BPDA(Staircase(), "mean")
    with pytest.raises(InputError, match="register_keras_serializable"):
        BPDA(Staircase(), lambda x: x).get_config()
