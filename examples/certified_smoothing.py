"""Certified robustness by randomized smoothing: on scikit-learn's digits, or on MNIST.

Run as `python examples/certified_smoothing.py`, with `--epochs 2` for a first look, or as
`python examples/certified_smoothing.py --dataset mnist --data FOLDER --points 500`. FOLDER (or the
environment variable KERAS_SECURE_DATA) holds `mnist.npz`.

A small network is trained to answer noisy inputs well and alike (Jeong & Shin 2020). Votes over the
noise then certify every 20th test image of MNIST, the points of Cohen et al. (2019), or the first
of these where fewer are asked for. Every certificate is wrong with a probability of at most 0.001.
All are made twice: with a fixed number of noisy copies, and with as many as the decisions at four
radii need, which are the first of the same copies.
"""

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers

import keras_secure as ks

ALPHA = 0.001


@dataclass(frozen=True)
class Settings:
    """What is trained and certified for one data set."""

    stddev: float
    epochs: int
    filters: tuple[int, int]
    units: int
    num_estimation: int
    points: int
    radii: tuple[float, ...]
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight: float = 5.0


SETTINGS = {
    "digits": Settings(0.25, 30, (16, 32), 64, 10_000, 60, (0.0, 0.25, 0.5, 0.75), 64),
    "mnist": Settings(0.5, 16, (16, 32), 128, 100_000, 500, (0.0, 0.5, 1.0, 1.5)),
}


def load(dataset, folder):
    """Returns training images and labels, and the test images and labels to choose points from."""
    if dataset == "digits":
        from sklearn.datasets import load_digits

        bunch = load_digits()
        x, y = (bunch.images / 16.0).astype("float32")[..., None], bunch.target
        order = np.random.default_rng(0).permutation(len(x))
        x, y = x[order], y[order]
        return x[360:], y[360:], x[:360], y[:360]
    with np.load(folder / "mnist.npz") as arrays:
        x, y, x_test, y_test = (arrays[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    x, x_test = (a[..., None] / np.float32(255) for a in (x, x_test))
    return x, y, x_test[::20], y_test[::20]


def train(settings, epochs, x, y):
    """Returns a network that answers noisy images."""
    first, second = settings.filters
    size = 3 if x.shape[1] < 28 else 5
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            layers.Conv2D(first, size, strides=2, padding="same", activation="relu"),
            layers.Conv2D(second, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(settings.units, activation="relu"),
            layers.Dense(10),
        ]
    )
    steps = epochs * -(-len(x) // settings.batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps)
    objective = ks.objectives.Consistency(settings.stddev, weight=settings.weight, seed=0)
    secure = ks.SecureModel(model, objective=objective)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    secure.compile(keras.optimizers.Adam(schedule), loss=loss, metrics=["accuracy"])
    secure.fit(x, y, batch_size=settings.batch_size, epochs=epochs, verbose=2)
    return model


def main():
    """Trains, certifies twice, and prints what was certified and at what cost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=os.environ.get("KERAS_SECURE_DATA"))
    parser.add_argument("--dataset", choices=sorted(SETTINGS), default="digits")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--points", type=int)
    parser.add_argument("--samples", type=int, help="noisy copies of each point")
    options = parser.parse_args()
    if options.dataset != "digits" and not options.data:
        parser.error("mnist needs the folder with its file: give --data.")
    settings = SETTINGS[options.dataset]
    keras.utils.set_random_seed(0)
    x, y, x_test, y_test = load(options.dataset, Path(options.data or "."))
    points = slice(options.points or settings.points)
    x_test, y_test = x_test[points], y_test[points]

    start = time.perf_counter()
    model = train(settings, options.epochs or settings.epochs, x, y)
    trained = time.perf_counter()
    print(f"trained in {trained - start:.0f} s", flush=True)

    smoothed = ks.certification.RandomizedSmoothing(model, settings.stddev)
    arguments = {
        "num_estimation": options.samples or settings.num_estimation,
        "alpha": ALPHA,
        "batch_size": 256,
        "seed": 0,
    }
    fixed = smoothed.certify(x_test, **arguments)
    certified = time.perf_counter()
    adaptive = smoothed.certify(x_test, adaptive=True, radii=settings.radii, **arguments)
    ended = time.perf_counter()

    samples = arguments["num_estimation"]
    average = fixed.average_certified_radius(y_test)
    print(
        f"{options.dataset}, sigma {settings.stddev}, {len(x_test)} points, {samples:,} copies "
        f"each, alpha {ALPHA}: {certified - trained:.0f} s, "
        f"{len(x_test) * samples / (certified - trained):,.0f} copies/s\n"
        f"average certified radius {average.value:.3f} ({average.low:.3f} to {average.high:.3f}), "
        f"abstained {np.mean(fixed.prediction < 0):.1%}"
    )
    agree = True
    for radius in settings.radii:
        share = fixed.certified_accuracy(y_test, radius)
        decisions = [(c.prediction >= 0) & (c.radius >= radius) for c in (fixed, adaptive)]
        agree &= np.array_equal(*decisions)
        print(
            f"certified accuracy at {radius:4}: {share.value:6.1%} "
            f"({share.low:.1%} to {share.high:.1%})"
        )
    used = adaptive.details["samples"].sum()
    print(
        f"adaptive: {used:,} of {len(x_test) * samples:,} copies "
        f"({used / (len(x_test) * samples):.1%}), {ended - certified:.0f} s, decisions at all "
        f"{len(settings.radii)} radii " + ("agree" if agree else "DIFFER")
    )
    print(f"in all {ended - start:.0f} s")


if __name__ == "__main__":
    main()
