"""Text, speech and images as people have them: private and robust training learns from them."""

import csv
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import keras_secure as ks

pytestmark = pytest.mark.slow


def hashed_words(text, length=40, rows=2000):
    """Word ids by hashing, which looks at no other example; 0 pads."""
    words = re.findall(r"\w+", text.lower())[:length]
    ids = [1 + zlib.crc32(word.encode()) % (rows - 1) for word in words]
    return ids + [0] * (length - len(ids))


def test_private_text_classifier(real_data):
    with open(real_data / "text" / "sms_spam.csv", encoding="utf-8", newline="") as file:
        rows = list({row["text"]: row["label"] for row in csv.DictReader(file)}.items())
    x = np.array([hashed_words(text) for text, _ in rows], "int32")
    y = np.array([label == "spam" for _, label in rows], "int32")
    x, y, x_test, y_test = x[1000:], y[1000:], x[:1000], y[:1000]
    model = keras.Sequential(
        [
            keras.Input((40,), dtype="int32"),
            layers.Embedding(2000, 16, mask_zero=True),
            layers.GlobalAveragePooling1D(),
            layers.Dense(16, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    noise = ks.privacy.calibrate_noise_multiplier(
        target_epsilon=3.0, target_delta=1e-4, num_examples=len(x), batch_size=512, epochs=30
    )
    optimizer = ks.optimizers.DPAdam(0.01, l2_norm_clip=0.5, noise_multiplier=noise)
    secure = ks.SecureModel(model)
    secure.compile(optimizer, loss="binary_crossentropy", metrics=["accuracy"])
    secure.fit(x, y, batch_size=512, epochs=30, verbose=0)
    _, accuracy = secure.evaluate(x_test, y_test, verbose=0)
    assert optimizer.epsilon(1e-4) <= 3.0
    majority = max(np.mean(y_test), 1 - np.mean(y_test))
    assert accuracy > majority + 0.03, (accuracy, majority)


def test_robust_image_classifier(real_data):
    with np.load(real_data / "mnist.npz") as arrays:
        x = arrays["x_train"][:8000, ..., None].astype("float32") / 255.0
        y = arrays["y_train"][:8000].astype("int32")
        x_test = arrays["x_test"][:200, ..., None].astype("float32") / 255.0
        y_test = arrays["y_test"][:200].astype("int32")
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", loss="sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=128, epochs=2, verbose=0)
    attack = ks.attacks.PGD(epsilon=0.15, steps=20)
    before = ks.attacks.evaluate(model, x_test, y_test, attack, verbose=0)
    pgd = ks.attacks.PGD(epsilon=0.15, steps=5)
    secure = ks.SecureModel(model, objective=ks.objectives.AdversarialTraining(pgd))
    secure.compile("adam", loss="sparse_categorical_crossentropy")
    secure.fit(x, y, batch_size=128, epochs=3, verbose=0)
    after = ks.attacks.evaluate(model, x_test, y_test, attack, verbose=0)
    assert after.worst_case.low > before.worst_case.high + 0.3


def test_robust_speech_classifier(real_data):
    with np.load(real_data / "audio" / "fsdd.npz") as arrays:
        waves, labels = arrays["waveforms"] / 32768.0, arrays["labels"].astype("int32")
        test = arrays["take"] < 5
    # Loudness by time and band, as an image would be.
    frames = np.abs(np.fft.rfft(waves.reshape(len(waves), 50, 160), axis=-1))[..., :80]
    x = np.log1p(frames).astype("float32")
    x /= x.max()

    def build():
        return keras.Sequential(
            [
                keras.Input((50, 80)),
                layers.Conv1D(32, 5, strides=2, activation="relu"),
                layers.Conv1D(64, 5, strides=2, activation="relu"),
                layers.GlobalMaxPooling1D(),
                layers.Dense(10),
            ]
        )

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    judge = ks.attacks.PGD(epsilon=0.02, steps=10)
    trades = ks.objectives.TRADES(ks.attacks.PGD(epsilon=0.02, steps=3), beta=3.0)
    reports = []
    for objective in (None, trades):
        model = build()
        secure = ks.SecureModel(model, objective=objective)
        secure.compile(keras.optimizers.Adam(3e-3), loss=loss)
        secure.fit(x[~test], labels[~test], batch_size=64, epochs=10, verbose=0)
        reports.append(ks.attacks.evaluate(model, x[test], labels[test], judge, verbose=0))
    plain, robust = reports
    assert plain.clean.value > 0.8
    assert robust.clean.value > 0.7
    assert robust.worst_case.low > plain.worst_case.high


@pytest.mark.parametrize(("dataset", "accuracy"), [("mnist", 98.0), ("fashion_mnist", 86.0)])
def test_accuracy_at_epsilon_three(real_data, dataset, accuracy):
    example = Path(__file__).parents[2] / "examples" / "private_images.py"
    run = subprocess.run(
        [sys.executable, str(example), "--dataset", dataset, "--data", str(real_data)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(example.parents[1])},
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found = re.search(r"mean of 1: test accuracy ([\d.]+)% at epsilon ([\d.]+)", run.stdout)
    assert float(found[1]) >= accuracy, run.stdout
    assert 2.9 < float(found[2]) <= 3.0
