"""Clipped sums are exact for recurrent layers, and the observed layer computes what Keras does."""

import keras
import numpy as np
import pytest
from harness_clipping import SIZE, check, normal, randomized, sequential
from keras import layers, ops

from keras_secure.privacy.observation import Observation
from keras_secure.privacy.rules import rule_for

TOKENS = np.array(
    [[0, 1, 2, 3, 4, 0, 1], [1] * 7, [0] * 7, [4, 4, 4, 0, 0, 0, 0], [0, 0, 1, 1, 0, 3, 3]]
)
DROPOUT = {"dropout": 0.3, "recurrent_dropout": 0.3, "seed": 1}

LAYERS = {
    "simple": lambda: layers.SimpleRNN(3),
    "simple_linear": lambda: layers.SimpleRNN(3, activation=None, use_bias=False, unroll=True),
    "simple_dropout": lambda: layers.SimpleRNN(3, return_sequences=True, **DROPOUT),
    "lstm": lambda: layers.LSTM(3),
    "lstm_backwards": lambda: layers.LSTM(3, go_backwards=True, return_sequences=True),
    "lstm_options": lambda: layers.LSTM(
        3, activation="softmax", recurrent_activation="hard_sigmoid", use_bias=False
    ),
    "lstm_implementation": lambda: layers.LSTM(
        3, implementation=1, dropout=0.4, seed=2, use_cudnn=False
    ),
    "lstm_dropout": lambda: layers.LSTM(3, **DROPOUT),
    "gru": lambda: layers.GRU(3, return_sequences=True),
    "gru_reset_before": lambda: layers.GRU(3, reset_after=False, recurrent_activation="softmax"),
    "gru_no_bias": lambda: layers.GRU(3, use_bias=False, unroll=True),
    "gru_dropout": lambda: layers.GRU(3, **DROPOUT),
    "gru_reset_before_dropout": lambda: layers.GRU(3, reset_after=False, unroll=True, **DROPOUT),
    "cell": lambda: layers.RNN(layers.GRUCell(2), return_sequences=True),
    "stack": lambda: layers.RNN(
        [layers.LSTMCell(3, dropout=0.2, seed=1), layers.GRUCell(2), layers.SimpleRNNCell(2)],
        return_sequences=True,
    ),
    "bidirectional": lambda: layers.Bidirectional(layers.GRU(2, return_sequences=True)),
    "bidirectional_sum": lambda: layers.Bidirectional(layers.LSTM(2, **DROPOUT), merge_mode="sum"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_recurrent_layer(name):
    check(randomized(sequential((4, 3), LAYERS[name](), layers.Dense(2))), training=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_recurrent_layer_in_every_mode(name):
    model = randomized(sequential((4, 3), LAYERS[name](), layers.Dense(2)))
    check(model, modes=("graph", "jit"))


def test_recurrent_layer_in_a_graph_and_compiled():
    check(randomized(sequential((4, 3), layers.LSTM(3))), modes=("graph", "jit"))


@pytest.mark.parametrize("name", ["simple", "lstm_backwards", "gru", "stack", "bidirectional"])
def test_masked_steps(name):
    embedding = layers.Embedding(5, 3, mask_zero=True)
    model = sequential((7,), embedding, LAYERS[name](), layers.Dense(2), dtype="int32")
    check(randomized(model), TOKENS)


def test_states_pass_from_layer_to_layer():
    inputs = keras.Input((4, 3))
    _, *states = layers.LSTM(2, return_state=True)(inputs)
    outputs = layers.LSTM(2, return_sequences=True)(inputs, initial_state=states)
    hidden, state = layers.GRU(2, return_sequences=True, return_state=True)(outputs)
    model = keras.Model(inputs, [layers.Dense(2)(hidden), state])
    check(randomized(model))


def test_layer_and_cell_used_more_than_once():
    inputs = keras.Input((4, 3))
    lstm, cell = layers.LSTM(3, return_sequences=True), layers.SimpleRNNCell(3)
    outputs = layers.RNN(cell)(layers.RNN(cell, return_sequences=True)(lstm(lstm(inputs))))
    check(randomized(keras.Model(inputs, outputs)))


def test_inside_a_layer_that_runs_by_example():
    class Scaled(layers.Layer):
        def __init__(self):
            super().__init__()
            self.lstm = layers.LSTM(2)

        def build(self, shape):
            self.scale = self.add_weight(shape=(2,))
            self.lstm.build(shape)

        def call(self, inputs):
            return self.lstm(inputs) * self.scale

    check(randomized(sequential((3, 2), Scaled())), fallback=[Scaled])


class OwnCell(layers.SimpleRNNCell):
    def call(self, sequence, states, training=False):
        return super().call(2.0 * sequence, states, training=training)


def test_cells_of_the_users_own_take_the_fallback():
    check(sequential((4, 3), layers.RNN(OwnCell(2)), layers.Dense(2)), fallback=[layers.RNN])


def test_one_direction_may_take_the_fallback_alone():
    both = layers.Bidirectional(
        layers.LSTM(2), backward_layer=layers.RNN(OwnCell(2), go_backwards=True)
    )
    check(sequential((4, 3), both, layers.Dense(2)), fallback=[layers.RNN])


@pytest.mark.parametrize("name", [n for n in LAYERS if "bidirectional" not in n])
def test_observed_forward_pass_is_that_of_keras(name):
    """Not only the gradients: outputs, last states and the draws of dropout are the layer's own."""
    layer = LAYERS[name]()
    layer.return_state = True
    x, mask = normal(SIZE, 4, 3), np.random.default_rng(3).random((SIZE, 4)) < 0.6
    layer.build(x.shape)
    seeds = [v for v in layer.variables if v.name == "seed_generator_state"]
    for given in (None, ops.convert_to_tensor(mask)):
        before = [np.asarray(seed) for seed in seeds]
        truth = layer(x, mask=given, training=True)
        after = [np.asarray(seed) for seed in seeds]
        for seed, value in zip(seeds, before, strict=True):
            seed.assign(value)
        observation = Observation([layer], [], SIZE, {})
        with observation.watching():
            found = layer(x, mask=given, training=True)
        assert observation.calls[id(layer)], "the layer was not observed"
        keras.tree.map_structure(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), truth, found
        )
        assert [np.asarray(s).tolist() for s in seeds] == [s.tolist() for s in after]


def test_only_the_cells_of_keras_have_the_rule():
    assert rule_for(layers.LSTM(2)) is not None
    assert rule_for(layers.LSTM(2, stateful=True)) is None
    assert rule_for(layers.RNN(OwnCell(2))) is None
    assert rule_for(layers.ConvLSTM2D(2, 2)) is None
