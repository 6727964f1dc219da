"""The cost of a private and of an adversarial training step, against the plain Keras step.

Run as `python benchmarks/step_cost.py`. Every configuration lives in a process of its own, so that
peak memory is its own; the processes take turns step by step, so that drift of the machine falls on
all alike. Printed are the medians of the ratios, with their quartiles.
"""

import argparse
import json
import os
import subprocess
import sys
import time

from step_models import BATCH, build, data

MODELS = ("mlp", "cnn", "attention")
KINDS = ("plain", "dp", "pgd7")


def worker(name, kind, optimizer, jit):
    """Takes one step for each line on standard input and prints its seconds."""
    import keras

    import keras_secure as ks

    keras.utils.set_random_seed(0)
    model, batch = keras.Model(*build(keras, name)), BATCH[name]
    x, y = data(name, batch)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.get(optimizer)
    subject = model
    if kind == "dp":
        optimizer = ks.optimizers.DPOptimizer(optimizer, 1.0, 1.0, expected_batch_size=batch)
        subject = ks.SecureModel(model)
    if kind == "pgd7":
        attack = ks.attacks.PGD(epsilon=0.1, steps=7)
        subject = ks.SecureModel(model, objective=ks.objectives.AdversarialTraining(attack))
    subject.compile(optimizer, loss, jit_compile=jit)
    subject.train_on_batch(x, y)
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        subject.train_on_batch(x, y)
        print(time.perf_counter() - start, flush=True)


def measure(name, kinds, rounds, optimizer, jit):
    """Runs the kinds in turn and returns seconds by kind and peak memory in MiB by kind."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, __file__, "--worker", name]
    workers = {}
    for kind in kinds:
        workers[kind] = subprocess.Popen(
            [*command, kind, "--optimizer", optimizer, *(["--jit"] if jit else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
    for process in workers.values():
        assert process.stdout.readline().strip() == "ready", "a worker failed to start"
    seconds = {kind: [] for kind in kinds}
    for turn in range(rounds + 2):
        for kind, process in workers.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            elapsed = float(process.stdout.readline())
            if turn >= 2:
                seconds[kind].append(elapsed)
    peaks = {}
    for kind, process in workers.items():
        with open(f"/proc/{process.pid}/status") as status:
            peak = next(line for line in status if line.startswith("VmHWM"))
        peaks[kind] = int(peak.split()[1]) / 1024
        process.stdin.close()
        process.wait()
    return seconds, peaks


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31, help="timed steps of each kind")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--optimizer", default="adam", help="of all steps alike (default adam)")
    parser.add_argument("--jit", action="store_true", help="compile the steps with XLA")
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker(*options.worker, options.optimizer, options.jit)

    import numpy as np

    rows = []
    header = f"{'model':10} {'step':6} {'ms':>8} {'ratio':>7} {'quartiles':>13} {'peak MiB':>9}"
    print(header)
    for name in options.models:
        seconds, peaks = measure(name, KINDS, options.rounds, options.optimizer, options.jit)
        plain = np.array(seconds["plain"])
        for kind in KINDS:
            ratios = np.array(seconds[kind]) / plain
            low, middle, high = np.percentile(ratios, [25, 50, 75])
            row = {
                "model": name,
                "step": kind,
                "milliseconds": 1e3 * float(np.median(seconds[kind])),
                "ratio": float(middle),
                "quartiles": [float(low), float(high)],
                "peak_mib": peaks[kind],
            }
            rows.append(row)
            print(
                f"{name:10} {kind:6} {row['milliseconds']:8.1f} {middle:7.2f} "
                f"{low:6.2f}-{high:<6.2f} {peaks[kind]:9.0f}",
                flush=True,
            )
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=2)
    return None


if __name__ == "__main__":
    main()
