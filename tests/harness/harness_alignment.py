"""Small models of every kind that re-alignment follows, with random weights."""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

VOCABULARY = 50


class TokensAndPositions(layers.Layer):
    """A user's own layer, whose table of positions is looked up outside of the graph."""

    def __init__(self, length, width, **options):
        super().__init__(**options)
        self.length, self.width = length, width
        self.tokens = layers.Embedding(VOCABULARY, width)
        self.positions = layers.Embedding(length, width)

    def build(self, shape):
        self.tokens.build(shape)
        self.positions.build(shape)
        self.built = True

    def call(self, x):
        return self.tokens(x) + self.positions(keras.ops.arange(keras.ops.shape(x)[1]))

    def get_config(self):
        return {**super().get_config(), "length": self.length, "width": self.width}


def dense():
    return keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(64, "relu", name="first"),
            layers.Dense(48, "tanh", name="second"),
            layers.Dense(10),
        ],
        name="dense",
    )


def convolutional():
    return keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(16, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(48),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dropout(0.3),
            layers.Dense(10, "softmax"),
        ],
        name="convolutional",
    )


def residual():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, padding="same")(inputs)
    for _ in range(2):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        y = layers.Conv2D(24, 3, padding="same", use_bias=False)(y)
        y = layers.LeakyReLU()(layers.BatchNormalization()(y))
        y = layers.DepthwiseConv2D(3, padding="same")(y)
        x = layers.Add()([x, layers.Conv2D(16, 1)(y)])
    x = layers.Conv2D(32, 3, strides=2, activation="relu")(x)
    y = layers.SeparableConv2D(20, 3, padding="same", activation="relu")(x)
    x = layers.PReLU(shared_axes=[1, 2])(layers.Concatenate()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x), name="residual")


def text():
    inputs = keras.Input((12,))
    x = TokensAndPositions(12, 32)(inputs)
    attended = layers.MultiHeadAttention(4, 8)(x, x)
    x = layers.LayerNormalization()(x + attended)
    hidden = layers.Dense(32)(layers.Dense(64, "gelu")(x))
    x = layers.LayerNormalization()(layers.Add()([x, hidden]))
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(2, "softmax")(x), name="text")


def recurrent():
    return keras.Sequential(
        [
            keras.Input((9,)),
            layers.Embedding(VOCABULARY, 24),
            layers.Bidirectional(layers.LSTM(16, return_sequences=True)),
            layers.GRU(24),
            layers.Dense(24, "relu"),
            layers.Dense(3),
        ],
        name="recurrent",
    )


FAMILIES = {build.__name__: build for build in (dense, convolutional, residual, text, recurrent)}


def randomized(model, seed=0):
    """Gives every variable random values of a usual size; returns the model."""
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        values = 0.3 * generator.normal(size=variable.shape)
        if "variance" in variable.path:
            values = np.exp(values)
        if "gamma" in variable.path:
            values = 1 + values
        variable.assign(values)
    return model


def inputs_of(model, count=8):
    """Random inputs: tokens for models that look them up."""
    generator = np.random.default_rng(0)
    _, *shape = model.input_shape
    if shape in ([9], [12]):
        return generator.integers(0, VOCABULARY, (count, *shape))
    return generator.normal(size=(count, *shape)).astype("float32")


def difference(one, other):
    """Largest difference of two models' outputs, relative to the largest output."""
    x = inputs_of(one)
    first, second = (keras.ops.convert_to_numpy(model(x, training=False)) for model in (one, other))
    return float(np.abs(first - second).max() / max(np.abs(first).max(), 1.0))
