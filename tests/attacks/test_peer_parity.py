"""Attacks against those of foolbox, the Adversarial Robustness Toolbox, cleverhans and AutoAttack.

Same weights, same examples, same steps; the peers run in environments of their own, which
`benchmarks/peers/build_attacks.sh` makes. Run as a script, this prints the table, of all attacks or
of those that are named.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_secure import attacks

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"
FOLDER = "KERAS_SECURE_PEERS"
ENVIRONMENTS = {"torch": "env-attacks", "tensorflow": "env-attacks-tensorflow"}
EXAMPLES = 60
pytestmark = pytest.mark.slow


def interpreter(framework):
    """The Python of an environment, or None."""
    folder = Path(os.environ.get(FOLDER, PEERS))
    found = folder / ENVIRONMENTS[framework] / "bin" / "python"
    return str(found) if found.exists() else None


def module(name):
    spec = importlib.util.spec_from_file_location(name, PEERS / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


class Worker:
    """A process that answers jobs; see `benchmarks/peers/attack_jobs.py`."""

    def __init__(self, framework):
        quiet = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._process = subprocess.Popen(
            [interpreter(framework), str(PEERS / f"worker_attacks_{framework}.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **quiet},
        )

    def run(self, job):
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        return json.loads(answer) if answer else {"failed": "the worker ended"}

    def close(self):
        self._process.stdin.close()
        self._process.wait(60)


def digits_classifier():
    """A small network trained on scikit-learn's digits, and examples that it has not seen."""
    from sklearn.datasets import load_digits

    keras.utils.set_random_seed(0)
    bunch = load_digits()
    x, y = (bunch.images / 16).astype("float32")[..., None], bunch.target
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], y[order]
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, activation="relu", padding="same"),
            layers.MaxPooling2D(2),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(x[:1500], y[:1500], batch_size=64, epochs=12, verbose=0)
    return model, x[1500 : 1500 + EXAMPLES], y[1500 : 1500 + EXAMPLES]


def inside(attack, **parameters):
    """A case that compares what is left of the accuracy: (ours, compared, tolerance, peers)."""
    return attack, "accuracy", parameters.pop("tolerance"), parameters


def nearest(attack, **parameters):
    """A case that compares distances."""
    return attack, "distance", parameters.pop("tolerance"), parameters


# name: (our attack, what is compared, tolerance, {library: (framework, attack, parameters)})
#
# Tolerance: accuracy may be higher than the peer's by so much (one example is 0.017); the median
# distance longer by that share of it. Starts are random in each library, so neither is zero.
CASES = {
    "PGD": inside(
        attacks.PGD(0.1, steps=20, step_size=0.02, seed=0),
        tolerance=0.034,
        foolbox=("torch", "LinfPGD", {"steps": 20, "abs_stepsize": 0.02}),
        art=(
            "torch",
            "ProjectedGradientDescent",
            {"norm": "inf", "eps": 0.1, "eps_step": 0.02, "max_iter": 20, "num_random_init": 1},
        ),
        cleverhans=("tensorflow", "projected_gradient_descent", {"eps_iter": 0.02, "nb_iter": 20}),
    ),
    "PGD l2": inside(
        attacks.PGD(0.5, norm="l2", steps=20, step_size=0.1, seed=0),
        tolerance=0.034,
        foolbox=("torch", "L2PGD", {"steps": 20, "abs_stepsize": 0.1}),
    ),
    "MIFGSM": inside(
        attacks.MIFGSM(0.1, steps=10),
        tolerance=0.017,
        art=(
            "torch",
            "MomentumIterativeMethod",
            {"norm": "inf", "eps": 0.1, "eps_step": 0.01, "decay": 1.0, "max_iter": 10},
        ),
        cleverhans=(
            "tensorflow",
            "momentum_iterative_method",
            {"eps_iter": 0.01, "nb_iter": 10, "decay_factor": 1.0},
        ),
    ),
    "APGD": inside(
        attacks.APGD(0.1, steps=50, seed=0),
        tolerance=0.017,
        autoattack=("torch", "apgd-ce", {"n_iter": 50, "n_restarts": 1}),
    ),
    "FAB": inside(
        attacks.FAB(0.1, steps=50, seed=0),
        tolerance=0.034,
        autoattack=("torch", "fab", {"n_iter": 50, "n_restarts": 1}),
    ),
    "Square": inside(
        attacks.Square(0.1, queries=1000, seed=0),
        tolerance=0.05,
        autoattack=("torch", "square", {"n_queries": 1000}),
    ),
    "AutoAttack": inside(
        attacks.AutoAttack(0.08, seed=0),
        tolerance=0.017,
        autoattack=("torch", "standard", {}),
    ),
    "CarliniWagnerL2": nearest(
        attacks.CarliniWagnerL2(binary_search_steps=6, max_iterations=200, initial_const=0.1),
        tolerance=0.02,
        foolbox=(
            "torch",
            "L2CarliniWagnerAttack",
            {"binary_search_steps": 6, "steps": 200, "stepsize": 0.01, "initial_const": 0.1},
        ),
        art=(
            "torch",
            "CarliniL2Method",
            {
                "binary_search_steps": 6,
                "max_iter": 200,
                "learning_rate": 0.01,
                "initial_const": 0.1,
            },
        ),
    ),
    "DeepFool": nearest(
        attacks.DeepFool(),
        tolerance=0.02,
        foolbox=("torch", "L2DeepFoolAttack", {"steps": 50, "overshoot": 0.02}),
        art=("torch", "DeepFool", {"max_iter": 50, "epsilon": 0.02}),
    ),
    "DeepFool linf": nearest(
        attacks.DeepFool(norm="linf"),
        tolerance=0.02,
        foolbox=("torch", "LinfDeepFoolAttack", {"steps": 50, "overshoot": 0.02}),
    ),
    "ElasticNet": nearest(
        attacks.ElasticNet(
            binary_search_steps=6,
            max_iterations=200,
            initial_const=0.1,
            decision_rule="L1",
            beta=0.01,
        ),
        # The toolbox leaves out the pull of the l2 term wherever the model is fooled already, which
        # is another objective than the paper's, and in l1 a little shorter.
        tolerance=0.05,
        foolbox=(
            "torch",
            "EADAttack",
            {
                "binary_search_steps": 6,
                "steps": 200,
                "initial_stepsize": 0.01,
                "initial_const": 0.1,
                "regularization": 0.01,
                "decision_rule": "L1",
                "abort_early": False,
            },
        ),
        art=(
            "torch",
            "ElasticNet",
            {
                "binary_search_steps": 6,
                "max_iter": 200,
                "learning_rate": 0.01,
                "initial_const": 0.1,
                "beta": 0.01,
                "decision_rule": "L1",
            },
        ),
    ),
    "HopSkipJump": nearest(
        attacks.HopSkipJump(steps=15, seed=0),
        tolerance=0.1,
        foolbox=("torch", "HopSkipJumpAttack", {"steps": 15}),
        art=("torch", "HopSkipJump", {"norm": 2, "max_iter": 15}),
    ),
    "HopSkipJump linf": nearest(
        attacks.HopSkipJump(norm="linf", steps=15, seed=0),
        # From one seed to another the median goes from 0.107 to 0.119.
        tolerance=0.1,
        foolbox=("torch", "HopSkipJumpAttack", {"steps": 15, "constraint": "linf"}),
        art=("torch", "HopSkipJump", {"norm": "inf", "max_iter": 15}),
    ),
    "Spatial": inside(
        attacks.Spatial(max_rotation=8, max_shift=0.3, num_rotations=5, num_shifts=3),
        tolerance=0.05,
        foolbox=(
            "torch",
            "SpatialAttack",
            {
                "max_rotation": 8,
                "max_translation": 0.3,
                "num_rotations": 5,
                "num_translations": 3,
            },
        ),
    ),
}
PAIRS = [(name, library) for name, case in CASES.items() for library in case[3]]


class Comparison:
    """Runs both sides once, on one model, and remembers what came out."""

    def __init__(self, folder):
        self.model, self.x, self.y = digits_classifier()
        self._folder, self._workers, self._ours = Path(folder), {}, {}
        module("attack_models").exported(self.model, self._folder / "model.npz")
        np.savez(self._folder / "data.npz", x=self.x, y=self.y)

    def ours(self, name):
        if name not in self._ours:
            self._ours[name] = CASES[name][0].run(self.model, self.x, self.y, verbose=0)
        return self._ours[name]

    def theirs(self, name, library):
        attack, _, _, peers = CASES[name]
        framework, kind, parameters = peers[library]
        if framework not in self._workers:
            self._workers[framework] = Worker(framework)
        return self._workers[framework].run(
            {
                "library": library,
                "attack": kind,
                "parameters": parameters,
                # What no norm bounds has no radius, either.
                "epsilon": None if attack.norm == "spatial" else attack.epsilon,
                "norm": "linf" if attack.norm == "spatial" else attack.norm,
                "model": str(self._folder / "model.npz"),
                "data": str(self._folder / "data.npz"),
                "batch_size": EXAMPLES,
            }
        )

    def figures(self, name, library):
        """(ours, theirs, tolerance as a difference); figures are accuracies or distances."""
        _, compared, tolerance, _ = CASES[name]
        ours, theirs = self.ours(name), self.theirs(name, library)
        if "failed" in theirs:
            return None, theirs["failed"], None
        if compared == "accuracy":
            return 1 - ours.success_rate, theirs["accuracy"], tolerance
        success = np.array(theirs["success"])
        # Where one side finds nothing, its distance is infinite; a median bears some of those.
        far = np.where(success, np.array([d or 0.0 for d in theirs["distances"]]), np.inf)
        moved = ours.queries > 1
        mine = np.median(np.where(ours.success, ours.distance, np.inf)[moved])
        median = np.median(far[moved])
        return mine, median, tolerance * median

    def close(self):
        for worker in self._workers.values():
            worker.close()


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    missing = [name for name in ENVIRONMENTS if interpreter(name) is None]
    if missing:
        pytest.skip(
            f"no environment with the peers for {', '.join(missing)}; build them "
            f"(benchmarks/peers/build_attacks.sh) and set {FOLDER} to their folder"
        )
    running = Comparison(tmp_path_factory.mktemp("parity"))
    yield running
    running.close()


@pytest.mark.parametrize(("name", "library"), PAIRS)
def test_ours_is_at_least_as_strong(name, library, comparison):
    ours, theirs, tolerance = comparison.figures(name, library)
    if ours is None:
        pytest.skip(f"{library} cannot run it: {theirs}")
    assert ours <= theirs + tolerance


def main(names):
    if any(interpreter(name) is None for name in ENVIRONMENTS):
        sys.exit(f"Build the peers' environments first and set {FOLDER} to their folder.")
    with tempfile.TemporaryDirectory() as folder:
        running = Comparison(folder)
        print(f"{'attack':18} {'library':12} {'compared':9} {'ours':>8} {'theirs':>8}")
        for name, library in PAIRS:
            if names and name not in names:
                continue
            ours, theirs, _ = running.figures(name, library)
            kind = CASES[name][1]
            values = f"{ours:8.4f} {theirs:8.4f}" if ours is not None else f"  {theirs}"
            print(f"{name:18} {library:12} {kind:9} {values}", flush=True)
        running.close()


if __name__ == "__main__":
    main(sys.argv[1:])
