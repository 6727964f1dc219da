"""The models that training steps are measured on, for Keras 3 and for the Keras before it.

Imports no framework: `build` takes the Keras to build with.
"""

import numpy as np

BATCH = {"mlp": 256, "cnn": 256, "vgg": 128, "attention": 64, "text": 256}
CLASSES = {"text": 2}
VOCABULARY, TOKENS = 10_000, 200


def build(keras, name):
    """Returns the input and the output of a functional model."""
    inputs = _input(keras, name)
    return inputs, globals()[f"_{name}"](keras.layers, inputs)


def data(name, batch):
    """Returns one batch of inputs and labels."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES.get(name, 10), batch).astype("int32")
    if name == "text":
        # Words are about as frequent as in language (Zipf).
        frequency = 1 / np.arange(1, VOCABULARY + 1)
        words = rng.choice(VOCABULARY, (batch, TOKENS), p=frequency / frequency.sum())
        return words.astype("int32"), y
    return rng.random((batch, *SHAPES[name]), dtype="float32"), y


SHAPES = {
    "mlp": (784,),
    "cnn": (28, 28, 1),
    "mnist": (28, 28, 1),
    "vgg": (32, 32, 3),
    "attention": (64, 128),
}


def _input(keras, name):
    if name == "text":
        return keras.Input((TOKENS,), dtype="int32")
    return keras.Input(SHAPES[name])


def _mlp(layers, x):
    x = layers.Dense(512, activation="relu")(x)
    return layers.Dense(10)(layers.Dense(512, activation="relu")(x))


def _cnn(layers, x):
    # The network of the tensorflow-privacy tutorial.
    x = layers.Conv2D(16, 8, strides=2, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D(2, 1)(x)
    x = layers.Conv2D(32, 4, strides=2, padding="valid", activation="relu")(x)
    x = layers.Flatten()(layers.MaxPooling2D(2, 1)(x))
    return layers.Dense(10)(layers.Dense(32, activation="relu")(x))


def _mnist(layers, x):
    # The network of fast adversarial training (Wong et al. 2020) on MNIST.
    x = layers.Conv2D(16, 4, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(32, 4, strides=2, padding="same", activation="relu")(x)
    return layers.Dense(10)(layers.Dense(100, activation="relu")(layers.Flatten()(x)))


def _vgg(layers, x):
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    return layers.Dense(10)(layers.Dense(128, activation="relu")(layers.Flatten()(x)))


def _attention(layers, x):
    for _ in range(4):
        attended = layers.MultiHeadAttention(4, 32)(x, x)
        x = layers.LayerNormalization()(layers.Add()([x, attended]))
        wide = layers.Dense(128)(layers.Dense(256, activation="relu")(x))
        x = layers.LayerNormalization()(layers.Add()([x, wide]))
    return layers.Dense(10)(layers.GlobalAveragePooling1D()(x))


def _text(layers, x):
    # Averaged word embeddings, as in TensorFlow's and Keras' first tutorials on text.
    x = layers.GlobalAveragePooling1D()(layers.Embedding(VOCABULARY, 64)(x))
    return layers.Dense(2)(layers.Dense(64, activation="relu")(x))
