"""Does AutoAttack find what brute force finds? On a model trained with FGSM-RS.

    python examples/fast_adversarial_training.py --dataset mnist --data FOLDER --save MODELS
    python benchmarks/auto_attack_agreement.py --data FOLDER --model MODELS/seed-0.keras
    python benchmarks/auto_attack_agreement.py                    (digits of scikit-learn, small)

Brute force is PGD with 20 restarts of 200 steps on cross-entropy, and again on the margin. Its
worst case for each example is compared with that of AutoAttack's standard version: AutoAttack may
find more, and must not find less by more than 0.3 points.
"""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np

import keras_secure as ks
from keras_secure.attacks.losses import margin

TOLERANCE = 0.003


class MarginPGD(ks.attacks.PGD):
    """PGD on the margin between the best other class and the label."""

    def objective(self, logits, labels):
        raised = margin(logits, labels)
        return -raised if self.targeted else raised


def load(folder):
    """Returns (x_train, y_train, x_test, y_test), images in [0, 1] with one channel."""
    if folder:
        with np.load(Path(folder) / "mnist.npz") as data:
            arrays = [data[name] for name in ("x_train", "y_train", "x_test", "y_test")]
        scale = 255.0
    else:
        from sklearn.datasets import load_digits

        x, y = load_digits().images, load_digits().target
        order = np.random.default_rng(0).permutation(len(x))
        arrays = [x[order[:1300]], y[order[:1300]], x[order[1300:]], y[order[1300:]]]
        scale = 16.0
    x_train, y_train, x_test, y_test = arrays
    return (
        (x_train / scale).astype("float32")[..., None],
        y_train.astype("int32"),
        (x_test / scale).astype("float32")[..., None],
        y_test.astype("int32"),
    )


def robust_model(path, x, y, epsilon):
    """Loads a model; without a path, trains a small one with FGSM-RS (Wong et al. 2020)."""
    if path:
        return keras.models.load_model(path)
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            keras.layers.Conv2D(16, 3, 2, "same", activation="relu"),
            keras.layers.Conv2D(32, 3, 2, "same", activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(100, "relu"),
            keras.layers.Dense(10),
        ]
    )
    attack = ks.attacks.FGSM(epsilon, random_start=True, step_size=1.25 * epsilon)
    secure = ks.SecureModel(model, objective=ks.objectives.AdversarialTraining(attack))
    secure.compile(
        keras.optimizers.Adam(2e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    secure.fit(x, y, batch_size=50, epochs=20, verbose=0)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="folder with mnist.npz; digits without it")
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--epsilon", type=float, help="0.3 for MNIST, 0.15 for digits")
    parser.add_argument("--model", help="a saved model; without it one is trained on digits")
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    epsilon = arguments.epsilon or (0.3 if arguments.data else 0.15)

    keras.utils.set_random_seed(arguments.seed)
    x_train, y_train, x, y = load(arguments.data)
    model = robust_model(arguments.model, x_train, y_train, epsilon)
    x, y = x[: arguments.points], y[: arguments.points]
    long = {"steps": arguments.steps, "restarts": arguments.restarts, "step_size": epsilon / 30}
    attacks = {
        "PGD, cross-entropy": ks.attacks.PGD(epsilon, seed=1, **long),
        "PGD, margin": MarginPGD(epsilon, seed=2, **long),
        "AutoAttack": ks.attacks.AutoAttack(epsilon, seed=3),
    }
    robust = {}
    for name, attack in attacks.items():
        start = time.perf_counter()
        result = attack.run(model, x, y, batch_size=250, from_logits=True, verbose=0)
        robust[name] = ~result.success
        found = result.success & (result.distance > 0)
        print(
            f"{name:20} {robust[name].mean():8.2%} robust, largest norm of what fools "
            f"{result.distance[found].max(initial=0.0):.9f}, {time.perf_counter() - start:.0f} s",
            flush=True,
        )
    brute = robust["PGD, cross-entropy"] & robust["PGD, margin"]
    excess = float(robust["AutoAttack"].mean() - brute.mean())
    print(f"{'brute force':20} {brute.mean():8.2%}")
    print(
        f"AutoAttack leaves {100 * excess:+.2f} points more than brute force "
        f"({'within' if excess <= TOLERANCE else 'ABOVE'} {100 * TOLERANCE:.1f}); it alone fools "
        f"{int((brute & ~robust['AutoAttack']).sum())}, brute force alone "
        f"{int((~brute & robust['AutoAttack']).sum())} of {len(x)}"
    )
    print(json.dumps({"points": len(x), "epsilon": epsilon, "excess": excess}))


if __name__ == "__main__":
    main()
