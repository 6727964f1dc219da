"""The network, the data and the sizes that `compression.py` and its peer measure alike."""

import gzip
from pathlib import Path

import numpy as np

BATCH = 128


def load(folder, examples):
    """Returns x, y, x_test, y_test of MNIST, of which `examples` to train on."""
    with np.load(Path(folder) / "mnist.npz") as arrays:
        x, y, x_test, y_test = (arrays[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    x, x_test = (a[..., None] / np.float32(255) for a in (x, x_test))
    return x[:examples], y[:examples].astype("int32"), x_test, y_test.astype("int32")


def network(keras):
    """A convolutional classifier of 106,122 weights, of the given Keras."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(16, 5, strides=2, padding="same", activation="relu", name="first"),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu", name="second"),
            layers.Flatten(name="flatten"),
            layers.Dense(64, activation="relu", name="hidden"),
            layers.Dense(10, name="top"),
        ]
    )


def compile_model(keras, model, learning_rate):
    """Compiles for cross-entropy of logits."""
    model.compile(
        keras.optimizers.Adam(learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def gzipped(weights):
    """Bytes of all weights as float32, one after the other, after gzip."""
    raw = b"".join(np.ascontiguousarray(w, np.float32).tobytes() for w in weights)
    return len(gzip.compress(raw, 9))
