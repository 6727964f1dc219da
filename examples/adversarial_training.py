"""Adversarial training: a digit classifier that withstands small changes of its input.

Run as `python examples/adversarial_training.py`, or with `--epochs 2` for a first look.
"""

import argparse

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_secure as ks

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=40)
parser.add_argument("--epsilon", type=float, default=0.15, help="largest change of a pixel")
options = parser.parse_args()
keras.utils.set_random_seed(0)

digits = load_digits()
images = (digits.images / 16.0).astype("float32")[..., None]
x, x_test, y, y_test = train_test_split(images, digits.target, test_size=360, random_state=0)


def build():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(64, 3, strides=2, padding="same", activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


plain = build()
plain.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
plain.fit(x, y, batch_size=64, epochs=min(15, options.epochs), verbose=2)

robust = build()
pgd = ks.attacks.PGD(epsilon=options.epsilon, steps=7)
secure = ks.SecureModel(robust, objective=ks.objectives.AdversarialTraining(pgd))
secure.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
judge = ks.attacks.PGD(epsilon=options.epsilon, steps=20)
watch = ks.callbacks.RobustnessEvaluation(judge, (x_test[:100], y_test[:100]), every=10)
secure.fit(x, y, batch_size=64, epochs=options.epochs, verbose=2, callbacks=[watch])

attack = ks.attacks.PGD(epsilon=options.epsilon, steps=50, restarts=5)
for name, model in (("plain", plain), ("robust", robust)):
    report = ks.attacks.evaluate(model, x_test, y_test, attack, verbose=0)
    print(
        f"{name:6}  clean {report.clean.value:6.1%}  under attack {report.worst_case.value:6.1%} "
        f"({report.worst_case.low:.1%} to {report.worst_case.high:.1%})"
    )
