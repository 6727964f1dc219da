"""Small models and data on which the checks look at the engine."""

import keras
import numpy as np
from keras import layers

import keras_secure as ks

SHAPE = (6, 4)


def model_with_every_turn():
    """A model whose gradients have positions, a layer used twice, and biases."""
    inputs = keras.Input(SHAPE)
    shared = layers.Dense(4, activation="tanh")
    hidden = layers.Conv1D(3, 2, activation="tanh")(shared(shared(inputs)))
    hidden = layers.LayerNormalization()(hidden)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(hidden)))


def examples(count, seed=0, scale=1.0):
    """Inputs of shape (count, *SHAPE) and two classes, from a seed."""
    random = np.random.default_rng(seed)
    x = scale * random.normal(size=(count, *SHAPE)).astype("float32")
    return x, random.integers(0, 2, count).astype("int32")


def secure_model(model=None, *, noise_multiplier=0.0, l2_norm_clip=1.0, loss=None, **plan):
    """A `SecureModel` compiled for eager private steps of plain gradient descent, rate one."""
    secure = ks.SecureModel(model or model_with_every_turn())
    optimizer = ks.optimizers.DPSGD(
        1.0, l2_norm_clip=l2_norm_clip, noise_multiplier=noise_multiplier, **plan
    )
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    secure.compile(optimizer, loss, run_eagerly=True)
    return secure


def weights_of(model):
    """The trainable weights as one float64 vector."""
    return np.concatenate([np.asarray(v, "float64").ravel() for v in model.trainable_variables])


def movement(model, action):
    """How far `action()` moves the trainable weights, as one vector."""
    before = weights_of(model)
    action()
    return before - weights_of(model)
