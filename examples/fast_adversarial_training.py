"""Fast adversarial training (FGSM with a random start) through `fit`, guarded against collapse.

Run as `python examples/fast_adversarial_training.py` (scikit-learn's digits; `--epochs 2` for a
first look), or as in Wong et al. 2020 (arXiv 2001.03994) on MNIST:

    python examples/fast_adversarial_training.py --dataset mnist --data FOLDER --seeds 5

FOLDER (or the environment variable KERAS_SECURE_DATA) holds `mnist.npz`. Network, Adam with a
learning rate that rises to 0.005 and falls to 0 again, 10 epochs of batches of 100: the paper's
settings. On MNIST such training collapses in many runs: PGD then fools the model on nearly
everything while FGSM does not. Three things help here. `EpsilonCurriculum`: epsilon rises from 0 in
the first `--curriculum` epochs. `CatastrophicOverfittingGuard` trains on 4 steps of PGD in one
batch of `--relief-every`, and looks for a collapse all the same, on held-out training images; it
would go back, and train on PGD for a while. And training with `--train-epsilon` of 0.4 for attacks
of 0.3 trades some of the clean accuracy. `--curriculum 0 --relief-every 0 --train-epsilon 0.3`
goes without.

For every seed a plain model is trained in turn, epoch by epoch in the same run, so that the ratio
of epoch times is that of one machine at one time. Each model is then attacked by PGD-50 with 10
restarts on `--points` test images.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

import keras_secure as ks

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class UpAndDown(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to `highest` over two fifths of the steps, then falls linearly to 0."""

    def __init__(self, highest, steps):
        self.highest, self.steps = highest, steps

    def __call__(self, step):
        done = ops.cast(step + 1, "float32") / self.steps
        return self.highest * ops.maximum(ops.minimum(done / 0.4, (1.0 - done) / 0.6), 0.0)

    def get_config(self):
        return {"highest": self.highest, "steps": self.steps}


class InTurn(keras.callbacks.Callback):
    """Trains a plain model for an epoch after every epoch, and times both."""

    def __init__(self, plain, x, y, batch_size):
        super().__init__()
        self.plain, self.x, self.y, self.batch_size = plain, x, y, batch_size
        self.seconds, self.plain_seconds = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self._start)
        start = time.perf_counter()
        self.plain.fit(self.x, self.y, batch_size=self.batch_size, verbose=0)
        self.plain_seconds.append(time.perf_counter() - start)

    def ratios(self):
        """Median over the epochs but the first, which traces; and the ratio of all together."""
        pairs = list(zip(self.seconds, self.plain_seconds, strict=True))
        pairs = pairs[1:] or pairs
        own, plain = map(sum, zip(*pairs, strict=True))
        return statistics.median(mine / theirs for mine, theirs in pairs), own / plain


def load(dataset, folder):
    """Returns training images and labels, test images and labels."""
    if dataset == "mnist":
        with np.load(folder / "mnist.npz") as arrays:
            parts = [arrays[name] for name in ("x_train", "y_train", "x_test", "y_test")]
        x, y, x_test, y_test = parts
        x, x_test = ((part / 255.0).astype("float32")[..., None] for part in (x, x_test))
        return x, y, x_test, y_test
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = (bunch.images / 16.0).astype("float32")[..., None]
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], bunch.target[order]
    return x[360:], y[360:], x[:360], y[:360]


def network(shape):
    """The network of the paper: every convolution halves the picture."""
    # PyTorch's first weights, which are smaller than those of Keras: with them the paper's learning
    # rate collapses less often.
    weights = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    half = {"strides": 2, "padding": "same", "activation": "relu", "kernel_initializer": weights}
    size = 4 if shape[0] > 16 else 3
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(16, size, **half),
            layers.Conv2D(32, size, **half),
            layers.Flatten(),
            layers.Dense(100, activation="relu", kernel_initializer=weights),
            layers.Dense(10, kernel_initializer=weights),
        ]
    )


def train(seed, data, options):
    """Trains one model; returns it, the guard, and the ratios of epoch times."""
    keras.utils.set_random_seed(seed)
    x, y = data
    # At random: the last digits of MNIST are easier than the rest, and would show no collapse.
    order = np.random.default_rng(seed).permutation(len(x))
    held, kept = order[: options.held], order[options.held :]
    held_out, (x, y) = (x[held], y[held]), (x[kept], y[kept])
    steps = -(-len(x) // options.batch_size) * options.epochs
    model, plain = network(x.shape[1:]), network(x.shape[1:])
    radius = options.train_epsilon
    fgsm = ks.attacks.FGSM(radius, random_start=True, step_size=1.15 * radius, seed=seed)
    secure = ks.SecureModel(model, objective=ks.objectives.AdversarialTraining(fgsm))
    for each in (secure, plain):
        schedule = UpAndDown(options.learning_rate, steps)
        each.compile(keras.optimizers.Adam(schedule), LOSS, metrics=["accuracy"])
    guard = ks.callbacks.CatastrophicOverfittingGuard(
        held_out,
        every=options.look_every,
        drop=options.drop,
        judge=ks.attacks.PGD(options.epsilon, steps=10, seed=0),
        relief=ks.attacks.PGD(radius, steps=options.relief_steps, seed=seed),
        relief_batches=options.relief_batches,
        relief_every=options.relief_every or None,
    )
    callbacks = [guard, InTurn(plain, x, y, options.batch_size)]
    if options.curriculum:
        callbacks.append(ks.callbacks.EpsilonCurriculum(epochs=options.curriculum))
    secure.fit(
        x,
        y,
        batch_size=options.batch_size,
        epochs=options.epochs,
        verbose=2,
        callbacks=callbacks,
    )
    return model, guard, callbacks[1].ratios()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=["digits", "mnist"], default="digits")
    parser.add_argument("--data", type=Path, default=os.environ.get("KERAS_SECURE_DATA", "."))
    parser.add_argument("--epochs", type=int, help="default: 10 on MNIST, 40 on the digits")
    parser.add_argument("--epsilon", type=float, help="default: 0.3 on MNIST, 0.15 on the digits")
    parser.add_argument(
        "--train-epsilon", type=float, help="default: 0.4 on MNIST, epsilon on the digits"
    )
    parser.add_argument("--batch-size", type=int, help="default: 100 on MNIST, 50 on the digits")
    parser.add_argument("--learning-rate", type=float, default=5e-3, help="the highest")
    parser.add_argument("--curriculum", type=int, help="default: 4 of 10 epochs")
    parser.add_argument("--drop", type=float, default=0.2, help="of the guard")
    parser.add_argument("--relief-steps", type=int, default=4, help="steps of the guard's PGD")
    parser.add_argument("--relief-batches", type=int, default=500)
    parser.add_argument("--relief-every", type=int, default=3, help="1 batch in so many; 0: none")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--points", type=int, help="test images to attack (default: all)")
    parser.add_argument("--save", type=Path, help="folder for the models, one for each seed")
    options = parser.parse_args()
    mnist = options.dataset == "mnist"
    options.epochs = options.epochs or (10 if mnist else 40)
    options.epsilon = options.epsilon or (0.3 if mnist else 0.15)
    options.train_epsilon = options.train_epsilon or (0.4 if mnist else options.epsilon)
    if options.curriculum is None:
        options.curriculum = 2 * options.epochs // 5
    options.batch_size = options.batch_size or (100 if mnist else 50)
    options.held, options.look_every = (500, 200) if mnist else (100, None)
    x, y, x_test, y_test = load(options.dataset, Path(options.data))
    points = slice(None, options.points)

    rows = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        model, guard, ratios = train(seed, (x, y), options)
        if options.save:
            options.save.mkdir(parents=True, exist_ok=True)
            model.save(options.save / f"seed-{seed}.keras")
        clean = np.mean(model.predict(x_test, batch_size=1000, verbose=0).argmax(1) == y_test)
        pgd = ks.attacks.PGD(options.epsilon, steps=50, restarts=10, seed=0)
        result = pgd.run(
            model, x_test[points], y_test[points], from_logits=True, batch_size=250, verbose=0
        )
        rows.append((clean, 1.0 - result.success_rate, len(guard.interventions), *ratios))
        print(f"seed {seed}: clean {clean:.2%}, robust {rows[-1][1]:.2%}", flush=True)

    # An epoch in which the guard trains on PGD takes longer: the median is a usual epoch.
    print(
        f"\n{'seed':>4} {'clean':>8} {'PGD-50x10':>10} {'guard acted':>12} "
        f"{'usual epoch':>12} {'all epochs':>11}"
    )
    for seed, (clean, robust, acted, usual, whole) in enumerate(rows, options.first_seed):
        print(f"{seed:4d} {clean:8.2%} {robust:10.2%} {acted:12d} {usual:11.2f}x {whole:10.2f}x")
    clean, robust, acted, usual, whole = np.mean(rows, axis=0)
    print(f"mean {clean:8.2%} {robust:10.2%} {acted:12.1f} {usual:11.2f}x {whole:10.2f}x")


if __name__ == "__main__":
    main()
