"""What attacks leave of each defence layer: attacks that do not know it, and attacks that do.

    python benchmarks/defences.py --data FOLDER      MNIST; FOLDER holds mnist.npz
    python benchmarks/defences.py                    scikit-learn's digits

Every defence stands in front of the same classifier. `unaware` inputs are made by PGD against that
classifier alone, and then meet the defence. `adaptive` inputs are made by PGD against defence and
classifier together: through the layer's own gradient where it has one, by backward pass
differentiable approximation where it rounds, and over the average of many passes where it is
random. Accuracies are the share of examples answered right; those of random models are of the
average over 10 passes.
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np

import keras_secure as ks
from keras_secure import layers


def load(folder):
    """Returns training and test data, and the size of the attack."""
    if folder is None:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        order = np.random.default_rng(0).permutation(len(bunch.target))
        x = (bunch.images / 16.0).astype("float32")[order, ..., None]
        y = bunch.target[order]
        return x[400:], y[400:], x[:400], y[:400], 0.15
    with np.load(Path(folder) / "mnist.npz") as arrays:
        x, y, x_test, y_test = (arrays[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    x, x_test = (a[..., None] / np.float32(255) for a in (x, x_test))
    return x[:20_000], y[:20_000], x_test, y_test, 0.15


def classifier(shape):
    """A small convolutional network."""
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Conv2D(16, 5, strides=2, padding="same", activation="relu"),
            keras.layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def fit(model, x, y, epochs):
    """Trains a model, or a wrapper of one, as usual."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss=loss)
    model.fit(x, y, batch_size=128, epochs=epochs, verbose=0)


def accuracy(model, x, y):
    """The share of examples answered right."""
    return float(np.mean(np.argmax(model.predict(x, verbose=0), axis=-1) == y))


def perturbed(attack, model, x, y, random):
    """The inputs that an attack ends with."""
    if not random:
        return attack.run(model, x, y, from_logits=True, verbose=0).x_adv
    parts = [
        attack.perturb(model, keras.ops.array(x[rows]), y[rows], from_logits=True)
        for rows in np.array_split(np.arange(len(x)), -(-len(x) // 100))
    ]
    return np.concatenate([np.asarray(part) for part in parts])


def main():
    """Prints one row for each defence."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data")
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--only", nargs="+", help="names of the rows to print")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    x, y, x_test, y_test, epsilon = load(options.data)
    x_test, y_test = x_test[: options.points], y_test[: options.points]
    shape = x.shape[1:]

    plain = classifier(shape)
    fit(plain, x, y, options.epochs)
    others = [classifier(shape) for _ in range(2)]
    for other in others:
        fit(other, x, y, options.epochs)
    purifier = layers.DenoisingAutoencoder(hidden=(16, 16), stddev=0.2, seed=0)
    purifier.compile(keras.optimizers.Adam(2e-3), loss="mse")
    purifier.fit(x, x, batch_size=128, epochs=options.epochs, verbose=0)
    robust = classifier(shape)
    # From the plain weights: from scratch, so small a network may never leave a constant answer.
    robust.set_weights(plain.get_weights())
    training = ks.attacks.PGD(epsilon, steps=7)
    secure = ks.SecureModel(robust, objective=ks.objectives.AdversarialTraining(training))
    fit(secure, x, y, 2 * options.epochs)

    def behind(layer):
        return keras.Sequential([keras.Input(shape), layer, plain])

    small = shape[0] < 28
    noise = layers.GaussianNoise(0.2, active="always", seed=0)
    resize = layers.RandomResizeAndPad(min_scale=0.8, active="always", seed=0)
    rows = [
        ("none", plain, False),
        ("FeatureSqueezing", behind(layers.FeatureSqueezing(2 if small else 1)), False),
        ("MedianSmoothing", behind(layers.MedianSmoothing(2 if small else 3)), False),
        ("JPEGCompression", behind(layers.JPEGCompression(30)), False),
        ("DenoisingAutoencoder", behind(purifier), False),
        ("Ensemble", layers.Ensemble([plain, *others]), False),
        ("RandomResizeAndPad", behind(resize), True),
        ("GaussianNoise", behind(noise), True),
        ("adversarial training", robust, False),
    ]
    attack = ks.attacks.PGD(epsilon, steps=options.steps, restarts=2, seed=0)
    unaware = attack.run(plain, x_test, y_test, from_logits=True, verbose=0).x_adv
    print(f"{len(x_test)} points, linf epsilon {epsilon}, PGD-{options.steps}")
    print(f"{'defence':22}{'clean':>8}{'unaware':>9}{'adaptive':>10}{'seconds':>9}")
    for name, model, random in rows:
        if options.only and name not in options.only:
            continue
        start = time.perf_counter()
        judged = ks.attacks.Expectation(model, samples=10, from_logits=True) if random else model
        adaptive = perturbed(attack, judged, x_test, y_test, random)
        print(
            f"{name:22}{accuracy(judged, x_test, y_test):8.1%}"
            f"{accuracy(judged, unaware, y_test):9.1%}{accuracy(judged, adaptive, y_test):10.1%}"
            f"{time.perf_counter() - start:9.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
