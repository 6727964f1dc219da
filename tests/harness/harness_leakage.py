"""Small private runs with canaries, for the tests of leak detection."""

import keras
import numpy as np

import keras_secure as ks
from keras_secure.privacy.noise import NoiseSource

DELTA = 1e-5
NUM_CANARIES = 1000


def remove_noise(monkeypatch):
    """The defect: no noise is added, while plan and ledger know nothing of it."""
    draw = NoiseSource.normal

    def silent(self, *args, **kwargs):
        return [0.0 * value for value in draw(self, *args, **kwargs)]

    monkeypatch.setattr(NoiseSource, "normal", silent)


def canary_audit(generator):
    """An audit whose canaries are easy to remember: each has an input of its own, and any label."""
    return ks.leakage.OneRunAudit(
        np.eye(NUM_CANARIES, NUM_CANARIES + 20, 20, dtype="float32"),
        generator.integers(0, 2, NUM_CANARIES).astype("int32"),
        # A sound bound is above the truth now and then; the same coins and noise decide it here.
        seed=int(generator.integers(2**31)),
    )


def ordinary_data(generator, size=200):
    """Points on a sphere, told apart by one direction, where no canary is."""
    x = generator.normal(size=(size, 20))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return (
        np.pad(x, ((0, 0), (0, NUM_CANARIES))).astype("float32"),
        (x[:, 0] > 0).astype("int32"),
    )


def private_run(audit, data, *, noise_multiplier=8.0, epochs=6, callbacks=()):
    """Logistic regression, trained privately on data and canaries, the same for the same.

    Returns:
        (SecureModel, the canaries' scores before training).
    """
    model = keras.Sequential([keras.Input((NUM_CANARIES + 20,)), keras.layers.Dense(2)])
    secure = ks.SecureModel(model)
    secure.compile(
        ks.optimizers.DPSGD(20.0, l2_norm_clip=1.0, noise_multiplier=noise_multiplier, seed=1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    before = audit.scores(model)
    x, y = audit.training_data(*data)
    secure.fit(x, y, batch_size=100, epochs=epochs, verbose=0, callbacks=list(callbacks))
    return secure, before
