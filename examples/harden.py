"""Hardening: makes a trained digit classifier withstand small changes, at a bounded clean cost.

Run as `python examples/harden.py`, or with `--epochs 2` for a first look.
"""

import argparse

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_secure as ks

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--epsilon", type=float, default=0.1, help="largest change of a pixel")
parser.add_argument("--target", type=float, default=0.7, help="robust accuracy to reach")
options = parser.parse_args()
keras.utils.set_random_seed(0)

digits = load_digits()
images = (digits.images / 16.0).astype("float32")[..., None]
x, x_test, y, y_test = train_test_split(images, digits.target, test_size=500, random_state=0)

model = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, y, batch_size=64, epochs=15, verbose=0)

attack = ks.attacks.PGD(options.epsilon, steps=10, seed=0)
report = ks.repair.harden(
    model,
    (x, y),
    attack,
    target_robust_accuracy=options.target,
    max_clean_drop=0.05,
    validation_data=(x_test, y_test),
    epochs=options.epochs,
    batch_size=64,
)
print(f"{report.epochs} epochs, target {'met' if report.met else 'missed'}")
print(report)

# Whether the figure can be believed is a question of its own.
print(ks.attacks.trust_check(model, x_test, y_test, attack))
