"""Attacks of keras_secure beside those of the peers: same weights, same points, taking turns.

    benchmarks/peers/build_attacks.sh        (once; leave out with --peers none)
    python examples/fast_adversarial_training.py --dataset mnist --data FOLDER --save MODELS
    python benchmarks/attacks.py --data FOLDER --model MODELS/seed-0.keras

FOLDER holds mnist.npz; without --data and --model, a small model is trained on scikit-learn's
digits. Three tables:

- PGD-40 on 500 points: each library at its fastest batch size, tracing and warm-up left out; what
  remains of the accuracy, the median time, and the median of the ratios turn by turn.
- AutoAttack, standard version: ours, the official one and ART's on the same points, in one batch.
- AutoAttack against its own price: the time for each point that withstands it, over that of 100 +
  9x100 + 9x100 gradient steps and 5,000 forward passes, measured in the same run.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from auto_attack_agreement import load, robust_model
from keras import ops
from peers.attack_models import exported

import keras_secure as ks
from keras_secure import backend

HERE = Path(__file__).resolve().parent
OURS = "keras_secure"
STEPS, STEP_SHARE = 40, 1 / 30
BATCH_SIZES = (64, 128, 250, 500)
PRICE = {"apgd-ce": 100, "apgd-t": 900, "fab-t": 900}
QUERIES = 5000
LIMIT = 1.15


class Peer:
    """A worker process in a peer's environment."""

    def __init__(self, folder, environment, script):
        self._process = subprocess.Popen(
            [str(Path(folder) / environment / "bin" / "python"), str(HERE / "peers" / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
        )

    def answer(self, job):
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"failed": "the worker ended"}


def pgd_jobs(epsilon):
    """PGD-40 as each library names it: (peer, library, attack, parameters)."""
    step = epsilon * STEP_SHARE
    art = {"eps": epsilon, "eps_step": step, "max_iter": STEPS, "num_random_init": 1}
    foolbox = {"steps": STEPS, "abs_stepsize": step, "random_start": True}
    hans = {"eps_iter": step, "nb_iter": STEPS, "rand_init": True, "clip_min": 0.0, "clip_max": 1.0}
    hans["sanity_checks"] = False
    return {
        "ART, PyTorch": ("torch", "art", "ProjectedGradientDescent", art),
        "ART, TensorFlow": ("tensorflow", "art", "ProjectedGradientDescent", art),
        "foolbox, PyTorch": ("torch", "foolbox", "LinfPGD", foolbox),
        "foolbox, TensorFlow": ("tensorflow", "foolbox", "LinfPGD", foolbox),
        "cleverhans": ("tensorflow", "cleverhans", "projected_gradient_descent", hans),
    }


def ours(attack, model, x, y, batch_size):
    start = time.perf_counter()
    result = attack.run(model, x, y, batch_size=batch_size, from_logits=True, verbose=0)
    return time.perf_counter() - start, float(1 - result.success_rate)


def pgd_table(model, x, y, epsilon, peers, job, rounds):
    step = epsilon * STEP_SHARE
    contenders = {}

    def own(batch_size, seed=0):
        attack = ks.attacks.PGD(epsilon, steps=STEPS, step_size=step, seed=seed)
        return ours(attack, model, x, y, batch_size)

    def of_peer(peer, library, name, parameters):
        def run(batch_size, seed=0):
            answer = peers[peer].answer(
                job
                | {"library": library, "attack": name, "parameters": parameters, "seed": seed}
                | {"batch_size": batch_size, "warm_up": True}
            )
            if "failed" in answer:
                return None, answer["failed"]
            return answer["seconds"][-1], answer["accuracy"]

        return run

    contenders[OURS] = own
    if peers:
        contenders |= {name: of_peer(*rest) for name, rest in pgd_jobs(epsilon).items()}
    print(f"\nPGD-{STEPS} on {len(x)} points, epsilon {epsilon}")
    best = {}
    for name, run in list(contenders.items()):
        timed = {}
        for size in BATCH_SIZES:
            if name == OURS:
                run(size)  # traced
            timed[size] = run(size)
        if timed[BATCH_SIZES[0]][0] is None:
            print(f"{name:20} failed: {timed[BATCH_SIZES[0]][1]}")
            del contenders[name]
            continue
        best[name] = min(timed, key=lambda size: timed[size][0])
    seconds = {name: [] for name in contenders}
    accuracy = {name: [] for name in contenders}
    for turn in range(rounds):
        for name, run in contenders.items():
            taken, left = run(best[name], turn)
            seconds[name].append(taken)
            accuracy[name].append(left)
    for name in contenders:
        ratio = statistics.median(
            peer / own for peer, own in zip(seconds[name], seconds[OURS], strict=True)
        )
        print(
            f"{name:20} {statistics.median(seconds[name]):7.2f} s  batch {best[name]:4d}  "
            f"{statistics.mean(accuracy[name]):7.2%} left  {ratio:6.2f}x of ours",
            flush=True,
        )


def auto_attack_table(model, x, y, epsilon, peers, job, rounds):
    attack = ks.attacks.AutoAttack(epsilon, seed=0)
    print(f"\nAutoAttack, standard, on {len(x)} points, epsilon {epsilon}")
    first, _ = ours(attack, model, x, y, len(x))
    seconds, theirs = [], []
    for turn in range(rounds):
        taken, left = ours(attack, model, x, y, len(x))
        seconds.append(taken)
        if peers:
            official = peers["torch"].answer(
                job
                | {"library": "autoattack", "attack": "standard", "parameters": {}}
                | {"batch_size": len(x), "seed": turn}
            )
            theirs.append(official)
    own = statistics.median(seconds)
    print(f"{OURS:20} {own:7.1f} s  {left:7.2%} left  (with tracing, once: {first:.1f} s)")
    if not peers:
        return
    if "failed" in theirs[0]:
        print(f"official             failed: {theirs[0]['failed']}")
    else:
        took = statistics.median(answer["seconds"][-1] for answer in theirs)
        left = statistics.mean(answer["accuracy"] for answer in theirs)
        print(
            f"{'official, PyTorch':20} {took:7.1f} s  {left:7.2%} left  {took / own:6.2f}x of ours"
        )
    for name, peer in (("ART, PyTorch", "torch"), ("ART, TensorFlow", "tensorflow")):
        parameters = {"eps": epsilon, "eps_step": 0.1}
        answer = peers[peer].answer(
            job
            | {"library": "art", "attack": "AutoAttack", "parameters": parameters}
            | {"batch_size": len(x)}
        )
        if "failed" in answer:
            print(f"{name:20} failed: {answer['failed']}", flush=True)
            continue
        took = answer["seconds"][-1]
        print(
            f"{name:20} {took:7.1f} s  {answer['accuracy']:7.2%} left  {took / own:6.1f}x of ours",
            flush=True,
        )


class UnitCosts:
    """Seconds of one gradient step, and of one forward pass, for one example in a batch."""

    def __init__(self, model, x, y, batch_size, steps=40):
        self._x, self._y = x[:batch_size], ops.convert_to_tensor(y[:batch_size])
        self._steps, self._size = steps, len(self._x)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")

        def gradient_steps(x):
            def step(_, x):
                gradient = backend.input_gradient(lambda x: loss(self._y, model(x)), x)[1]
                return x + 1e-4 * gradient

            return ops.fori_loop(0, steps, step, x)

        def forward_passes(x):
            def look(_, x):
                return x + 1e-9 * ops.mean(model(x), axis=1)[:, None, None, None]

            return ops.fori_loop(0, steps, look, x)

        self._graphs = [backend.compiled(gradient_steps), backend.compiled(forward_passes)]
        self.measured()

    def measured(self):
        costs = []
        for graph in self._graphs:
            start = time.perf_counter()
            ops.convert_to_numpy(graph(self._x))
            costs.append((time.perf_counter() - start) / (self._steps * self._size))
        return costs


def price_table(model, x, y, epsilon, rounds, batch_size=128):
    full = ks.attacks.AutoAttack(epsilon, seed=0)
    result = full.run(model, x, y, batch_size=batch_size, from_logits=True, verbose=0)
    left = np.flatnonzero(~result.success)
    # Full batches, so that the units, too, are of what is computed.
    left = left[: max(len(left) // batch_size, 1) * batch_size]
    x, y = x[left], y[left]
    print(f"\nAutoAttack against its own price, for each of {len(x)} points that withstand it")
    shared = {"epsilon": epsilon, "seed": 0}
    members = {
        "apgd-ce": ks.attacks.APGD(**shared),
        "apgd-t": ks.attacks.APGD(loss="dlr", num_targets=9, **shared),
        "fab-t": ks.attacks.FAB(num_targets=9, **shared),
        "square": ks.attacks.Square(queries=QUERIES, **shared),
    }
    units = UnitCosts(model, x, y, batch_size)
    ratios = {name: [] for name in (*members, "together")}
    for _ in range(rounds):
        spent, price = 0.0, 0.0
        for name, attack in members.items():
            before = units.measured()
            taken, _ = ours(attack, model, x, y, batch_size)
            # What a step and a pass cost, right before and right after.
            gradient, forward = (
                statistics.mean(pair) for pair in zip(before, units.measured(), strict=True)
            )
            due = len(x) * (QUERIES * forward if name == "square" else PRICE[name] * gradient)
            ratios[name].append(taken / due)
            spent, price = spent + taken, price + due
        ratios["together"].append(spent / price)
    for name, values in ratios.items():
        print(f"{name:20} {statistics.median(values):5.2f}x of its steps and passes")
    together = statistics.median(ratios["together"])
    print(f"limit {LIMIT}x: {'met' if together <= LIMIT else 'NOT MET'}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="folder with mnist.npz; digits without it")
    parser.add_argument("--peers", default=str(HERE / "peers"), help="folder, or none")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--points", type=int, default=500, help="for PGD and for the price")
    parser.add_argument("--auto-attack-points", type=int, default=50)
    parser.add_argument("--model", help="a saved model; without it one is trained on digits")
    parser.add_argument("--tables", nargs="+", default=["pgd", "auto-attack", "price"])
    arguments = parser.parse_args()
    epsilon = 0.3 if arguments.data else 0.15

    keras.utils.set_random_seed(0)
    x_train, y_train, x, y = load(arguments.data)
    model = robust_model(arguments.model, x_train, y_train, epsilon)
    x, y = x[: arguments.points], y[: arguments.points]
    peers = {}
    if arguments.peers != "none":
        for name, environment in (
            ("torch", "env-attacks"),
            ("tensorflow", "env-attacks-tensorflow"),
        ):
            peers[name] = Peer(arguments.peers, environment, f"worker_attacks_{name}.py")
    with tempfile.TemporaryDirectory() as scratch:
        exported(model, f"{scratch}/model.npz")
        few = slice(0, arguments.auto_attack_points)
        np.savez(f"{scratch}/points.npz", x=x, y=y)
        np.savez(f"{scratch}/few.npz", x=x[few], y=y[few])
        job = {"model": f"{scratch}/model.npz", "norm": "linf", "epsilon": epsilon}
        points, fewer = {"data": f"{scratch}/points.npz"}, {"data": f"{scratch}/few.npz"}
        if "pgd" in arguments.tables:
            pgd_table(model, x, y, epsilon, peers, job | points, arguments.rounds)
        if "auto-attack" in arguments.tables:
            auto_attack_table(model, x[few], y[few], epsilon, peers, job | fewer, arguments.rounds)
        if "price" in arguments.tables:
            price_table(model, x, y, epsilon, arguments.rounds)


if __name__ == "__main__":
    main()
