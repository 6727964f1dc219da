"""Refusals: models, losses and checkpoints under which nothing could be promised."""

import warnings

import keras
import numpy as np
from keras import layers, ops

from keras_secure import backend
from keras_secure.audit.self_check.checks.check import require, require_refusal
from keras_secure.audit.self_check.checks.subjects import SHAPE, examples, movement, secure_model
from keras_secure.errors import FallbackWarning, PrivacyError


def _fit(model=None, loss=None, **plan):
    secure = secure_model(model, loss=loss, noise_multiplier=1.0, **plan)
    x, y = examples(8, seed=9)
    secure.fit(x, y, batch_size=4, verbose=0)
    return secure


def mixing_models_are_refused():
    """Batch normalization, and whatever else lets an example see its batch-mates."""
    inputs = keras.Input(SHAPE)
    flat = layers.Flatten()(inputs)
    normalized = keras.Model(inputs, layers.Dense(2)(layers.BatchNormalization()(flat)))
    require_refusal(PrivacyError, lambda: _fit(normalized), "batch normalization is trained")

    class Centred(layers.Layer):
        def call(self, x):
            return x - ops.mean(x, axis=0, keepdims=True)

    inputs = keras.Input(SHAPE)
    mixing = keras.Model(inputs, layers.Dense(2)(Centred()(layers.Flatten()(inputs))))
    require_refusal(
        PrivacyError, lambda: _fit(mixing), "a model whose examples see each other is trained"
    )


def mixing_losses_are_refused():
    """A loss whose value for one example depends on the others."""

    def centred(y, logits):
        values = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
        return values - ops.mean(values)

    require_refusal(PrivacyError, lambda: _fit(loss=centred), "a loss that mixes examples is used")


def averaged_gradients_are_refused():
    """Averages cannot be clipped by example."""
    secure = _fit()
    variables = secure.model.trainable_variables
    gradients = [ops.zeros_like(v) for v in variables]
    require_refusal(
        PrivacyError,
        lambda: secure.optimizer.apply(gradients, variables),
        "the optimizer takes averaged gradients",
    )


def hidden_uses_of_weights_are_found():
    """A weight used behind its layer's back has its whole gradient clipped all the same."""

    class Twice(keras.Model):
        def __init__(self):
            super().__init__()
            self.flat, self.dense = layers.Flatten(), layers.Dense(2)

        def call(self, x):
            x = self.flat(x)
            return self.dense(x) + ops.matmul(ops.square(x), self.dense.kernel)

    model = Twice()
    x, y = examples(1, seed=10)
    model(x)
    losses = keras.losses.sparse_categorical_crossentropy

    def ordinary():
        return ops.sum(losses(y, model(x), from_logits=True)), None

    _, _, expected = backend.gradients(ordinary, lambda: model.trainable_variables)
    secure = secure_model(model, expected_batch_size=1, l2_norm_clip=1e6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        four = (np.repeat(x, 4, axis=0), np.repeat(y, 4, axis=0))
        moved = movement(model, lambda: secure.train_on_batch(*four))
    expected = 4 * np.concatenate([np.asarray(g, "float64").ravel() for g in expected])
    require(np.allclose(moved, expected, atol=1e-4), "a hidden use of a weight is not seen")


def checkpoints_cannot_forget():
    """A ledger that is missing, older than what was done, or altered is not restored."""
    secure = _fit()
    optimizer = secure.optimizer
    older: dict = {}
    optimizer.save_own_variables(older)
    secure.fit(*examples(8, seed=9), batch_size=4, verbose=0)
    require_refusal(
        PrivacyError,
        lambda: optimizer.load_own_variables(older),
        "an older checkpoint makes the ledger forget steps",
    )
    newer: dict = {}
    optimizer.save_own_variables(newer)
    bare = {key: value for key, value in newer.items() if key != "ledger"}
    require_refusal(
        PrivacyError,
        lambda: optimizer.load_own_variables(bare),
        "a checkpoint without a ledger is restored",
    )
    altered = dict(newer)
    text = bytes(altered["ledger"]).replace(b'"steps": 2', b'"steps": 1')
    altered["ledger"] = np.frombuffer(text, np.uint8)
    fresh = secure_model(noise_multiplier=1.0).optimizer
    fresh.build(secure.model.trainable_variables)
    require(text != bytes(newer["ledger"]), "the ledger does not name its steps")
    require_refusal(
        PrivacyError, lambda: fresh.load_own_variables(altered), "an altered ledger is restored"
    )
