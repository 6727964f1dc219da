"""A backdoor, from the planting to the repair: BadNets on MNIST or on the digits of scikit-learn.

Run as `python examples/backdoor_repair.py`, with `--epochs 2` for a first look, or as
`python examples/backdoor_repair.py --dataset mnist --data FOLDER --seeds 20 --rates 0.01 0.05 0.1
--clean 30` for the figures of docs/detection.md. FOLDER (or the environment variable
KERAS_SECURE_DATA) holds `mnist.npz`.

For every seed a share of the training images, drawn from all classes but one, gets a white square
of 3 x 3 pixels near the corner and the label of that class. Then, for every model trained on them:

- `SpectralSignatures` scores the training images; the published score stands beside it;
- the model is trained anew without what was flagged (`retrain_without`);
- for the first `--cleanse` seeds of each rate, `NeuralCleanse` searches the model for its backdoor,
  and the trigger it finds is unlearned on a tenth of the data, clean (`unlearn_trigger`).

`--clean` models trained on clean images are searched too: what is flagged there is a false alarm.
`--detect` leaves the repairs out.
Success is measured with the planted trigger, on test images that were never trained on.
"""

import argparse
import os
import time
from pathlib import Path

import keras
import numpy as np
from sklearn.metrics import roc_auc_score

import keras_secure as ks

TRIGGER = np.s_[:, -4:-1, -4:-1]


def load(dataset, folder):
    """Returns training images and labels, test images and labels."""
    if dataset == "digits":
        from sklearn.datasets import load_digits

        bunch = load_digits()
        x, y = (bunch.images / 16.0).astype("float32"), bunch.target
        order = np.random.default_rng(0).permutation(len(x))
        x, y = x[order, ..., None], y[order].astype("int32")
        return x[360:], y[360:], x[:360], y[:360]
    with np.load(folder / "mnist.npz") as arrays:
        parts = [arrays[name] for name in ("x_train", "y_train", "x_test", "y_test")]
    x, y, x_test, y_test = parts
    x, x_test = ((a / np.float32(255))[..., None] for a in (x, x_test))
    return x, y.astype("int32"), x_test, y_test.astype("int32")


def stamp(x):
    """Returns copies of the images with a white square near the lower right corner."""
    x = x.copy()
    x[TRIGGER] = 1.0
    return x


def poison(x, y, target, rate, seed):
    """Returns images and labels of which a share is poisoned, and which ones are."""
    others = np.flatnonzero(y != target)
    rows = np.random.default_rng(seed).choice(others, round(rate * len(x)), replace=False)
    poisoned = np.zeros(len(x), bool)
    poisoned[rows] = True
    x, y = x.copy(), y.copy()
    x[poisoned], y[poisoned] = stamp(x[poisoned]), target
    return x, y, poisoned


def build(shape):
    """Returns a small convolutional network, compiled."""
    layers = keras.layers
    strides = 2 if shape[0] >= 28 else 1
    model = keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(16, 5, strides=strides, padding="same", activation="relu"),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss=loss)
    return model


def one_run(data, rate, seed, fit, cleanse, mend=True):
    """Plants a backdoor, looks for it, repairs the model, and returns what was measured."""
    x_clean, y_clean, x_test, y_test = data
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    target = seed % 10
    x, y, poisoned = poison(x_clean, y_clean, target, rate, seed)
    model = build(x.shape[1:])
    model.fit(x, y, **fit)
    features = ks.detection.layer_features(model, x)

    here = y == target
    report = ks.detection.SpectralSignatures().inspect_features(features, y)
    plain = ks.detection.SpectralSignatures(method="plain").inspect_features(features, y)
    found = {
        "auroc": roc_auc_score(poisoned[here], report.scores[here]),
        "auroc_all": roc_auc_score(poisoned, report.scores),
        "auroc_plain": roc_auc_score(poisoned[here], plain.scores[here]),
        "clean_flagged": report.flagged[~poisoned].mean(),
        "poison_flagged": report.flagged[poisoned].mean(),
    }
    measured = {"validation": (x_test, y_test), "stamp": stamp, "target": target}
    if cleanse:
        # The search needs a few hundred clean images, the unlearning a tenth of the data.
        backdoor = ks.detection.NeuralCleanse(seed=seed).inspect(model, x_test[:500])
        found["cleanse_found"] = backdoor.flagged_classes == (target,)
        found["cleanse_p_value"] = backdoor.p_values[target]
    if cleanse and mend:
        unlearned = keras.models.clone_model(model)
        unlearned.set_weights(model.get_weights())
        rows = np.random.default_rng(seed).permutation(len(x))[: len(x) // 10]
        unlearning = {**fit, "epochs": 5}
        # A high rate to leave the short cut, falling to zero to settle again.
        steps = unlearning["epochs"] * -(-len(rows) // fit["batch_size"])
        rate_of_step = keras.optimizers.schedules.CosineDecay(3e-3, steps)
        unlearned.compile(keras.optimizers.Adam(rate_of_step), loss=model.loss)
        repair = ks.repair.unlearn_trigger(
            unlearned, x_clean[rows], y_clean[rows], backdoor, **measured, **unlearning
        )
        found["unlearned_attack"] = repair.attack_after.value
        found["unlearned_cost"] = repair.clean_cost
    if not mend:
        return found
    repair = ks.repair.retrain_without(model, x, y, report.flagged, **measured, **fit)
    found["accuracy"] = repair.clean_before.value
    found["attack"] = repair.attack_before.value
    found["retrained_attack"] = repair.attack_after.value
    found["retrained_cost"] = repair.clean_cost
    return found


def clean_run(data, seed, fit):
    """Trains on clean images and returns what `NeuralCleanse` says of the model."""
    x, y, x_test, _ = data
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = build(x.shape[1:])
    model.fit(x, y, **fit)
    return ks.detection.NeuralCleanse(seed=seed).inspect(model, x_test[:500])


def main():
    """Runs all seeds and rates, and prints one line for each run and a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=os.environ.get("KERAS_SECURE_DATA"))
    parser.add_argument("--dataset", choices=("digits", "mnist"), default="digits")
    parser.add_argument("--epochs", type=int, help="defaults to 30 on digits, 1 on MNIST")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.1])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--cleanse", type=int, default=10, help="seeds for Neural Cleanse")
    parser.add_argument("--clean", type=int, default=0, help="clean models for Neural Cleanse")
    parser.add_argument("--detect", action="store_true", help="detect only, repair nothing")
    options = parser.parse_args()
    if options.dataset == "mnist" and not (options.data and Path(options.data).is_dir()):
        parser.error("mnist needs the folder with mnist.npz: give --data.")
    data = load(options.dataset, Path(options.data) if options.data else None)
    epochs = options.epochs or (30 if options.dataset == "digits" else 1)
    fit = {"epochs": epochs, "batch_size": 128 if options.dataset == "mnist" else 32, "verbose": 0}

    start = time.perf_counter()
    runs = {rate: [] for rate in options.rates}
    for rate in options.rates:
        for seed in range(options.seeds):
            began = time.perf_counter()
            found = one_run(data, rate, seed, fit, seed < options.cleanse, not options.detect)
            runs[rate].append(found)
            values = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
            seconds = time.perf_counter() - began
            print(f"rate {rate:g}, seed {seed}: {values}; {seconds:.0f} s", flush=True)

    clean = []
    for seed in range(options.clean):
        clean.append(clean_run(data, seed, fit))
        flagged, p_value = clean[-1].flagged_classes, clean[-1].p_values.min()
        print(f"clean, seed {seed}: flagged {flagged}, smallest p-value {p_value:.4g}", flush=True)

    def column(rate, name, digits=4):
        values = [found[name] for found in runs[rate] if name in found]
        if not values:
            return "-"
        return (
            f"{np.mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
        )

    print(
        f"\n{options.dataset}, {options.seeds} seeds, {epochs} epochs; mean (smallest to largest)"
    )
    for rate in options.rates:
        cleansed = [found["cleanse_found"] for found in runs[rate] if "cleanse_found" in found]
        print(f"\npoisoned share of the training set: {rate:.0%}")
        for name, words in (
            ("accuracy", "clean accuracy of the poisoned model"),
            ("attack", "attack success on the poisoned model"),
            ("auroc", "AUROC in the target class, whitened"),
            ("auroc_all", "AUROC over all training data, whitened"),
            ("auroc_plain", "AUROC in the target class, as published"),
            ("poison_flagged", "share of the poison flagged"),
            ("clean_flagged", "share of the clean data flagged"),
            ("cleanse_p_value", "p-value of the target class"),
            ("retrained_attack", "attack success, retrained without"),
            ("retrained_cost", "clean accuracy lost, retrained without"),
            ("unlearned_attack", "attack success, trigger unlearned"),
            ("unlearned_cost", "clean accuracy lost, trigger unlearned"),
        ):
            print(f"  {words:42} {column(rate, name)}")
        print(
            f"  {'Neural Cleanse flags the target class alone':42} {sum(cleansed)}/{len(cleansed)}"
        )
    if clean:
        accused = sum(bool(report.flagged_classes) for report in clean)
        print(f"\nNeural Cleanse flags a class of {accused}/{len(clean)} clean models")
    print(f"\n{(time.perf_counter() - start) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
