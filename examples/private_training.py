"""Private training: a digit classifier with a proven bound on what it tells of any example.

Run as `python examples/private_training.py`, or with `--epochs 2` for a first look.
"""

import argparse

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_secure as ks

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=40)
parser.add_argument("--target-epsilon", type=float, default=3.0)
options = parser.parse_args()
keras.utils.set_random_seed(0)  # weights only: noise and sampling come from the operating system

digits = load_digits()
images = (digits.images / 16.0).astype("float32")[..., None]
x, x_test, y, y_test = train_test_split(images, digits.target, test_size=360, random_state=0)
delta, batch_size = 1e-4, 256

model = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(32, 3, padding="same", activation="tanh"),
        keras.layers.Conv2D(64, 3, strides=2, padding="same", activation="tanh"),
        keras.layers.Flatten(),
        keras.layers.Dense(128, activation="tanh"),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
noise_multiplier = ks.privacy.calibrate_noise_multiplier(
    target_epsilon=options.target_epsilon,
    target_delta=delta,
    num_examples=len(x),
    batch_size=batch_size,
    epochs=options.epochs,
)
optimizer = ks.optimizers.DPAdam(5e-3, l2_norm_clip=1.0, noise_multiplier=noise_multiplier)
budget = ks.callbacks.PrivacyBudget(options.target_epsilon, delta)
secure = ks.SecureModel(model)
secure.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
secure.fit(x, y, batch_size=batch_size, epochs=options.epochs, verbose=2, callbacks=[budget])

_, accuracy = secure.evaluate(x_test, y_test, verbose=0)
print(f"test accuracy {accuracy:.1%} at epsilon {optimizer.epsilon(delta):.3f}, delta {delta:g}")
members = ks.leakage.membership_losses(model, x, y)
others = ks.leakage.membership_losses(model, x_test, y_test)
leak = ks.leakage.threshold_membership_attack(members, others)
print(f"membership AUC {leak.auc:.3f} ({leak.auc_interval[0]:.3f} to {leak.auc_interval[1]:.3f})")
