"""What compression costs in robustness and in watermarks.

    python benchmarks/compression_security.py --data FOLDER

FOLDER holds mnist.npz. A network is trained against attacks with a watermark in its loss. Every way
of compression starts from its weights, and trains on against the same attacks with the mark still
attached, except for the rows "after training". Robust accuracy is measured by 20 steps of projected
gradient descent on each compressed network itself, on 500 test examples; `wrong bits` are of the
watermark's 256.

Exits with 1 if a way that trains loses more than 3 points of robust accuracy, or any way the mark.
"""

import argparse
import sys

import keras
from compression_task import BATCH, compile_model, load, network

import keras_secure as ks
from keras_secure.watermark import SpreadSpectrum, attach

EPSILON, MOST_LOST = 0.1, 0.03


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    x, y, x_test, y_test = load(options.data, options.examples)
    held_out = x_test[:500], y_test[:500]
    mark = SpreadSpectrum("the owner's secret")
    compression = ks.compression

    def fit(model, callbacks=()):
        keras.utils.set_random_seed(0)
        attack = ks.attacks.PGD(EPSILON, steps=5)
        secure = ks.SecureModel(model, objective=ks.objectives.AdversarialTraining(attack))
        compile_model(keras, secure, 2e-3)
        secure.fit(x, y, BATCH, options.epochs, verbose=0, callbacks=list(callbacks))
        return model

    keras.utils.set_random_seed(0)
    base = network(keras)
    attach(base, mark)
    fit(base)

    def start():
        model = network(keras)
        attach(model, mark)
        model.set_weights(base.get_weights())
        return model

    def after_training(bits):
        model = start()
        compression.quantize(model, bits)
        return model

    ways = {
        "prune 80%": lambda: fit(start(), [ks.callbacks.Pruning(0.8)]),
        "2:4": lambda: fit(start(), [ks.callbacks.Pruning(pattern="2:4")]),
        "16 clusters": lambda: compression.strip(fit(compression.cluster_aware(start(), 16))),
        "QAT 4 bits": lambda: compression.strip(fit(compression.quantize_aware(start(), 4))),
        "QAT 2 bits": lambda: compression.strip(fit(compression.quantize_aware(start(), 2))),
        "after training 4 bits": lambda: after_training(4),
        "after training 2 bits": lambda: after_training(2),
    }
    failures = []
    print(f"{'':24}{'clean':>14}{'robust':>16}{'wrong bits':>12}  watermark")
    for name, way in ways.items():
        report = ks.audit.compare_compressed(
            base,
            way(),
            held_out,
            attacks=ks.attacks.PGD(EPSILON, steps=20),
            marks=[mark],
            max_drop=MOST_LOST,
        )
        (carried,) = report.marks
        clean = f"{report.clean_before.value:.3f}->{report.clean_after.value:.3f}"
        robust = f"{report.robust_before.value:.3f}->{report.robust_after.value:.3f}"
        bits = f"{carried.errors_before}->{carried.errors_after}"
        print(f"{name:24}{clean:>14}{robust:>16}{bits:>12}  {carried.verdict_after}", flush=True)
        drop = report.robust_before.value - report.robust_after.value
        if "after" not in name and drop > MOST_LOST:
            failures.append(f"{name}: {drop:.3f} of robust accuracy is lost")
        if carried.verdict_after != "proved":
            failures.append(f"{name}: the watermark is {carried.verdict_after}")
    print("\n".join(f"FAILED {failure}" for failure in failures) or "all as promised")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
