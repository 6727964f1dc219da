"""Two replicas are one mechanism: one noise draw for the global batch, the same result."""

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

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")


def train(strategy, noise=1.0, rate=0.1, wide=8, clip=1.0, dropout=0.0, **plan):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(wide, "tanh"),
                keras.layers.Dropout(dropout),
                keras.layers.Dense(2),
            ]
        )
        secure = ks.SecureModel(model)
        secure.compile(
            ks.optimizers.DPSGD(
                rate, 0.9, l2_norm_clip=clip, noise_multiplier=noise, seed=3, **plan
            ),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    before = model.get_weights()
    history = secure.fit(X, Y, batch_size=16, epochs=2, verbose=0).history
    return model, secure.optimizer, before, history


mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert mirrored.num_replicas_in_sync == 2
one, single, _, history_one = train(tf.distribute.OneDeviceStrategy("CPU:0"))
two, double, _, history_two = train(mirrored)
assert single.executed_steps == double.executed_steps == 8
assert single.ledger.phases(8) == double.ledger.phases(8)
for first, second in zip(one.get_weights(), two.get_weights(), strict=True):
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)
np.testing.assert_allclose(history_one["accuracy"], history_two["accuracy"], atol=1e-5)
np.testing.assert_allclose(history_one["loss"], history_two["loss"], rtol=1e-4)
for variable in two.trainable_variables:
    copies = [np.asarray(v) for v in mirrored.experimental_local_results(variable.value)]
    assert len(copies) == 2
    np.testing.assert_array_equal(copies[0], copies[1])

# Counts add up over the replicas, so that the adaptive clip is one; parts of a batch, too.
plan = {"clip": 0.3, "noise": 0.5, "clipping": "adaptive", "microbatch_size": 5}
one, single, _, history_one = train(tf.distribute.OneDeviceStrategy("CPU:0"), **plan)
two, double, _, history_two = train(mirrored, **plan)
for first, second in zip(one.get_weights(), two.get_weights(), strict=True):
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)
np.testing.assert_allclose(history_one["accuracy"], history_two["accuracy"], atol=1e-5)
np.testing.assert_allclose(history_one["loss"], history_two["loss"], rtol=1e-4)
clips = [float(np.asarray(v)) for v in mirrored.experimental_local_results(double.l2_bound.value)]
assert len(set(clips)) == 1
np.testing.assert_allclose(clips[0], float(np.asarray(single.l2_bound.value)), rtol=1e-5)
assert abs(clips[0] / 0.3 - 1) > 0.02
# Dropout advances its random state inside the loop over the parts.
_, _, _, history = train(mirrored, dropout=0.5, microbatch_size=3)
assert np.isfinite(history["loss"]).all()

# Almost only noise: its scale after 8 steps of momentum 0.9 on N(0, (sigma C / 16)^2).
model, _, before, _ = train(mirrored, noise=1e4, rate=1.0, wide=3000, clip=1e-4)
shares = [(1 - 0.9 ** (8 - k)) / 0.1 for k in range(8)]
scale = 1e4 * 1e-4 / 16 * np.sqrt(np.sum(np.square(shares)))
moved = np.concatenate(
    [(a - b).ravel() for a, b in zip(model.get_weights(), before, strict=True)]
)
assert abs(np.std(moved) / scale - 1) < 0.03, np.std(moved) / scale
print("replicas agree")
"""


def test_two_replicas_equal_one():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=300
    )
    assert "replicas agree" in done.stdout, done.stderr[-3000:]
