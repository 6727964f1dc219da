"""Replicas: two of them are one mechanism."""

import functools

import keras
import numpy as np
from keras import layers

import keras_secure as ks
from keras_secure import backend
from keras_secure.audit.self_check.checks.check import require


@functools.cache
def two_replicas():
    """Two replicas on this processor; None in a process that has computed something already."""
    return backend.processor_replicas(2)


def replicas_add_one_draw():
    """Two replicas release the noise of one draw for the global batch."""
    x = np.zeros((16, 4), "float32")
    y = np.zeros(16, "int32")
    strategy = two_replicas()
    if strategy is None:
        return
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), layers.Dense(3000), layers.Dense(2)])
        secure = ks.SecureModel(model)
        optimizer = ks.optimizers.DPSGD(1.0, l2_norm_clip=1e-4, noise_multiplier=1e4)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        secure.compile(optimizer, loss)
    before = model.get_weights()
    secure.fit(x, y, batch_size=16, verbose=0)
    moved = [a - b for a, b in zip(model.get_weights(), before, strict=True)]
    spread = float(np.std(np.concatenate([m.ravel() for m in moved]))) * 16
    require(abs(spread - 1) < 0.05, f"two replicas release {spread:.2f} times the promised noise")
