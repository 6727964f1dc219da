"""Robust training on two replicas: what works gives the same as on one, the rest is refused."""

import subprocess
import sys

SCRIPT = r"""
import os
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import keras_secure as ks

X = np.random.default_rng(0).uniform(0.2, 0.8, size=(32, 4)).astype("float32")
Y = (X[:, 0] > 0.5).astype("int32")
FGSM = ks.attacks.FGSM(0.1)


def train(strategy, objective, *callbacks):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(2)]
        )
        secure = ks.SecureModel(model, objective=objective)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        secure.compile(keras.optimizers.SGD(0.5), loss)
    secure.fit(X, Y, batch_size=16, epochs=2, shuffle=False, verbose=0, callbacks=list(callbacks))
    return model.get_weights()


def agree(make, callbacks=lambda: []):
    both = [train(strategy, make(), *callbacks()) for strategy in (alone, mirrored)]
    for first, second in zip(*both, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)


alone = tf.distribute.OneDeviceStrategy("CPU:0")
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
adversarial = lambda: ks.objectives.AdversarialTraining(FGSM)
agree(adversarial)
agree(adversarial, lambda: [ks.callbacks.EpsilonCurriculum(epochs=2)])
agree(adversarial, lambda: [ks.callbacks.CatastrophicOverfittingGuard((X, Y), every=1)])

# Each replica moves the weights by its own half: the same where the halves are.
X[8:16], Y[8:16], X[24:], Y[24:] = X[:8], Y[:8], X[16:24], Y[16:24]
agree(lambda: ks.objectives.AdversarialWeightPerturbation(adversarial(), gamma=0.1))

try:
    train(mirrored, ks.objectives.FreeAdversarialTraining(FGSM))
except ks.errors.InputError as error:
    assert "Train on one device" in str(error)
else:
    raise AssertionError("free training on replicas was not refused")
print("passed")
"""


def test_two_replicas():
    finished = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    assert "passed" in finished.stdout
