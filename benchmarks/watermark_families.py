"""The two families of models that the watermark grid marks: an image and a text classifier.

`scramble` does to a family's weights what a thief can do without changing the model's answers. It
is written out weight by weight and knows nothing of the library's own rules for symmetries, so that
re-alignment is tested against a second opinion.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

VOCABULARY, LENGTH, WIDTH, HEADS, HIDDEN = 2000, 40, 64, 4, 128
DEPTH = WIDTH // HEADS
_NAMES = ("table", "g1", "b1", "q", "qb", "k", "kb", "v", "vb", "o", "ob", "g2", "b2")
_NAMES += ("up", "upb", "down", "downb", "head", "headb")


@dataclass(frozen=True)
class Data:
    """Training and test data of one family."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


class Images:
    """A convolutional network on MNIST, or on scikit-learn's digits where there is no MNIST."""

    name = "mnist-cnn"
    rate, batch_size = 1e-3, 128

    def load(self, folder, limit=10_000):
        """Returns the data: `limit` training examples and the whole test set."""
        if folder is None:
            from sklearn.datasets import load_digits

            bunch = load_digits()
            order = np.random.default_rng(0).permutation(len(bunch.target))
            x = np.kron(bunch.images / 16.0, np.ones((3, 3)))[order].astype("float32")[..., None]
            x = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
            y = bunch.target[order]
            return Data(x[600:][:limit], y[600:][:limit], x[:600], y[:600])
        with np.load(Path(folder) / "mnist.npz") as arrays:
            x, y, x_test, y_test = (
                arrays[name] for name in ("x_train", "y_train", "x_test", "y_test")
            )
        x, x_test = (a[..., None] / np.float32(255) for a in (x, x_test))
        return Data(x[:limit], y[:limit], x_test, y_test)

    def build(self, more=0):
        """Returns a fresh model; `more` percent of units beside its own."""
        first, second, hidden = (size + size * more // 100 for size in (16, 32, 64))
        return keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                keras.layers.Conv2D(first, 5, strides=2, padding="same", activation="relu"),
                keras.layers.Conv2D(second, 3, strides=2, padding="same", activation="relu"),
                keras.layers.Flatten(),
                keras.layers.Dense(hidden, activation="relu"),
                keras.layers.Dense(10, name="head"),
            ]
        )

    def scramble(self, model, seed):
        """Returns a model with the same answers: units permuted, rescaled, and a quarter more."""
        rng = np.random.default_rng(seed)
        weights = model.get_weights()
        weights[4] = weights[4].reshape(7, 7, 32, 64)
        for place, count in ((0, 16), (2, 32), (4, 64)):
            order, scale = _order(rng, count), _scale(rng, count)
            dummies = count // 4
            weights[place] = _widen_out(weights[place][..., order] * scale, dummies, rng)
            weights[place + 1] = _widen_out(weights[place + 1][order] * scale, dummies, rng)
            after = weights[place + 2][..., order, :] / scale[:, None]
            weights[place + 2] = _widen_in(after, dummies)
        # Units that were put in are put among the others, not behind them.
        for place in (0, 2, 4):
            order = rng.permutation(weights[place].shape[-1])
            weights[place], weights[place + 1] = (
                part[..., order] for part in weights[place : place + 2]
            )
            weights[place + 2] = weights[place + 2][..., order, :]
        weights[4] = weights[4].reshape(-1, weights[4].shape[-1])
        other = self.build(more=25)
        other.set_weights(weights)
        return other


class Texts:
    """A small attention model on the SMS Spam Collection, or on made-up texts without it."""

    name = "sms-attention"
    rate, batch_size = 1e-3, 64

    def load(self, folder, limit=3000):
        """Returns the data: `limit` training examples, the others to test."""
        if folder is None:
            return _made_up_texts(limit)
        with open(Path(folder) / "text" / "sms_spam.csv", encoding="utf-8", newline="") as file:
            rows = {row["text"]: row["label"] == "spam" for row in csv.DictReader(file)}
        order = np.random.default_rng(0).permutation(len(rows))
        texts = np.array(list(rows), object)[order]
        y = np.array(list(rows.values()), "int32")[order]
        vectorize = keras.layers.TextVectorization(VOCABULARY, output_sequence_length=LENGTH)
        vectorize.adapt(list(texts[:limit]))
        x = np.concatenate(
            [
                keras.ops.convert_to_numpy(vectorize(list(texts[start : start + 1000])))
                for start in range(0, len(texts), 1000)
            ]
        ).astype("int32")
        return Data(x[:limit], y[:limit], x[limit:], y[limit:])

    def build(self, more=0):
        """Returns a fresh model; `more` percent of hidden units beside its own."""
        tokens = keras.Input((LENGTH,), dtype="int32")
        x = keras.layers.Embedding(VOCABULARY, WIDTH)(tokens)
        read = keras.layers.LayerNormalization()(x)
        x = keras.layers.Add()([x, keras.layers.MultiHeadAttention(HEADS, DEPTH)(read, read)])
        hidden = keras.layers.LayerNormalization()(x)
        hidden = keras.layers.Dense(HIDDEN + HIDDEN * more // 100, activation="relu")(hidden)
        x = keras.layers.Add()([x, keras.layers.Dense(WIDTH)(hidden)])
        x = keras.layers.GlobalAveragePooling1D()(x)
        return keras.Model(tokens, keras.layers.Dense(2, name="head")(x))

    def scramble(self, model, seed):
        """Returns a model with the same answers: see the lines for what is exchanged."""
        rng = np.random.default_rng(seed)
        w: dict[str, Any] = dict(zip(_NAMES, model.get_weights(), strict=True))
        wide = _order(rng, WIDTH)  # the channels of the residual stream, everywhere alike
        for name in ("table", "g1", "b1", "o", "ob", "g2", "b2", "down", "downb"):
            w[name] = w[name][..., wide]
        for name in ("q", "k", "v", "up", "head"):
            w[name] = w[name][wide]
        heads = _order(rng, HEADS)
        for name in ("q", "qb", "k", "kb", "v", "vb"):
            w[name] = w[name][..., heads, :]
        w["o"] = w["o"][heads]
        for head in range(HEADS):  # dimensions within a head, and scales that cancel
            inner, scale = _order(rng, DEPTH), _scale(rng, DEPTH)
            for name, factor in (("q", scale), ("qb", scale), ("k", 1 / scale), ("kb", 1 / scale)):
                w[name][..., head, :] = w[name][..., head, inner] * factor
            inner, scale = _order(rng, DEPTH), _scale(rng, DEPTH)
            for name in ("v", "vb"):
                w[name][..., head, :] = w[name][..., head, inner] * scale
            w["o"][head] = w["o"][head][inner] / scale[:, None]
        order, scale = _order(rng, HIDDEN), _scale(rng, HIDDEN)
        dummies = HIDDEN // 4
        w["up"] = _widen_out(w["up"][:, order] * scale, dummies, rng)
        w["upb"] = _widen_out(w["upb"][order] * scale, dummies, rng)
        w["down"] = _widen_in(w["down"][order] / scale[:, None], dummies)
        order = _order(rng, HIDDEN + dummies)
        w["up"], w["upb"], w["down"] = w["up"][:, order], w["upb"][order], w["down"][order]
        other = self.build(more=25)
        other.set_weights(list(w.values()))
        return other


FAMILIES = {family.name: family for family in (Images(), Texts())}


def _order(rng, count):
    return rng.permutation(count)


def _scale(rng, count):
    return np.exp(rng.normal(0, 1, count)).astype("float32")


def _widen_out(weights, count, rng):
    """Puts in units that see something: their values look like those that are there."""
    made = rng.choice(weights.ravel(), (*weights.shape[:-1], count)).astype(weights.dtype)
    return np.concatenate([weights, made], axis=-1)


def _widen_in(weights, count):
    """Lets nothing depend on the units that were put in."""
    nothing = np.zeros((*weights.shape[:-2], count, weights.shape[-1]), weights.dtype)
    return np.concatenate([weights, nothing], axis=-2)


def _made_up_texts(limit):
    """Texts of random words in which some words say what the label is."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 2000).astype("int32")
    x = rng.zipf(1.3, (2000, LENGTH)) % VOCABULARY
    telling = rng.random((2000, LENGTH)) < 0.15
    x = np.where(telling, 2 + 20 * y[:, None] + rng.integers(0, 20, (2000, LENGTH)), x)
    x = x.astype("int32")
    return Data(x[800:][:limit], y[800:][:limit], x[:800], y[:800])
