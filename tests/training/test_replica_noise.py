"""On two replicas, every kind of noise is drawn once, at its scale, and alike on both."""

import subprocess
import sys

import pytest

SCRIPT = r"""
import os, sys
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from scipy import stats
import keras_secure as ks
from keras_secure.privacy.matrix_factorization import banded_coefficients

NOISE, CLIP, BATCH, WIDTH, STEPS = 3.0, 0.1, 16, 5000, 8
X, Y = np.zeros((64, 4), "float32"), np.zeros((64, WIDTH), "float32")
plan = eval(sys.argv[1])
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with mirrored.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(WIDTH, use_bias=False)])
    secure = ks.SecureModel(model)
    optimizer = ks.optimizers.DPSGD(
        1.0, l2_norm_clip=CLIP, noise_multiplier=NOISE, sampling="deterministic", **plan
    )
    secure.compile(optimizer, loss="mse")


class Weights(keras.callbacks.Callback):
    noted = []

    def on_train_batch_end(self, batch, logs=None):
        self.noted.append(model.get_weights()[0].ravel())


before = model.get_weights()[0].ravel()
secure.fit(X, Y, batch_size=BATCH, epochs=2, verbose=0, callbacks=[Weights()])
assert optimizer.executed_steps == STEPS
moved = np.diff(np.array([before, *Weights.noted]).astype("float64"), axis=0)
noise = -moved * BATCH / (NOISE * CLIP)
# The first steps' scale: rows of the inverse of the strategy matrix.
response = np.zeros(STEPS)
coefficients = banded_coefficients(plan.get("bands", 1), STEPS)
for step in range(STEPS):
    lags = range(1, min(step, len(coefficients) - 1) + 1)
    past = sum(coefficients[lag] * response[step - lag] for lag in lags)
    response[step] = ((step == 0) - past) / coefficients[0]
for step, row in enumerate(noise):
    scale = np.sqrt(np.sum(response[: step + 1] ** 2))
    assert stats.kstest(row / scale, "norm").pvalue > 1e-9, (step, np.std(row) / scale)
    for wrong in (2 / 3, 3 / 2, 2**0.5, 0.5**0.5):
        assert stats.kstest(row / scale / wrong, "norm").pvalue < 1e-12
for variable in model.trainable_variables:
    copies = [np.asarray(v) for v in mirrored.experimental_local_results(variable.value)]
    assert len(copies) == 2
    np.testing.assert_array_equal(copies[0], copies[1])
print("one draw at its scale")
"""


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"secure_noise": True},
        {"bands": 4},
        pytest.param({"bands": 3, "secure_noise": True}, marks=pytest.mark.slow),
    ],
)
def test_noise_on_two_replicas(plan):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, repr(plan)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "one draw at its scale" in done.stdout, done.stderr[-3000:]
