"""Attacks form the gradient of a first convolution the fast way, and get the same gradient."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from keras_secure.attacks import PGD
from keras_secure.attacks.input_gradient import input_gradient_of_sum
from keras_secure.attacks.light_convolutions import light_convolutions

X = np.random.default_rng(0).random((5, 9, 9, 2)).astype("float32")


class Doubled(layers.Conv2D):
    def convolution_op(self, inputs, kernel):
        return 2.0 * super().convolution_op(inputs, kernel)


def network(first):
    inputs = keras.Input((9, 9, 2))
    hidden = keras.Sequential([first, layers.ReLU(), layers.Conv2D(8, 3, activation="relu")])
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(hidden(inputs))))


CASES = {
    "same": lambda: layers.Conv2D(4, 3, padding="same", activation="relu"),
    "strides": lambda: layers.Conv2D(6, 4, strides=2, padding="valid"),
    "dilated": lambda: layers.Conv2D(4, 3, dilation_rate=2),
    "groups": lambda: layers.Conv2D(4, 3, groups=2),
    "uneven": lambda: layers.Conv2D(4, 3, strides=(1, 2)),
    "spread": lambda: layers.Conv2D(32, 3, padding="same"),
    "own": lambda: Doubled(4, 3),
    "depthwise": lambda: layers.DepthwiseConv2D(3),
}


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_the_plain_one(name):
    model = network(CASES[name]())

    def losses(x):
        return ops.sum(ops.square(model(x)), axis=1)

    expected, plain = input_gradient_of_sum(losses, ops.convert_to_tensor(X))
    with light_convolutions(model):
        found, fast = input_gradient_of_sum(losses, ops.convert_to_tensor(X))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=1e-5 * np.abs(plain).max())


def test_layers_are_left_as_they_were():
    model = network(CASES["same"]())
    first = model.layers[1].layers[0]
    with light_convolutions(model):
        assert "convolution_op" in vars(first)
    assert "convolution_op" not in vars(first)

    def failing():
        with light_convolutions(model):
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert "convolution_op" not in vars(first)
    with light_convolutions(lambda x: x):
        pass


def operations(graph):
    definition = graph.as_graph_def()
    inner = [node for function in definition.library.function for node in function.node_def]
    return [node.op for node in (*definition.node, *inner)]


def test_a_training_attack_uses_it():
    model = network(CASES["strides"]())
    attack = PGD(0.1, steps=2)
    graph = tf.function(lambda x, y: attack.perturb(model, x, y))
    kinds = operations(graph.get_concrete_function(X, np.zeros(5, "int32")).graph)
    # The second convolution has six channels and keeps the usual kernel.
    assert kinds.count("Conv2DBackpropInput") == 1
    assert kinds.count("DepthToSpace") == 1


@pytest.mark.parametrize(
    ("channels", "taps", "stride", "light"),
    [(4, 3, 1, True), (5, 3, 1, False), (8, 3, 2, True), (16, 3, 2, False), (16, 4, 2, True)],
)
def test_where_it_pays(channels, taps, stride, light):
    model = keras.Sequential(
        [keras.Input((8, 8, channels)), layers.Conv2D(2, taps, strides=stride)]
    )
    with light_convolutions(model):
        assert ("convolution_op" in vars(model.layers[0])) == light
