"""tensorflow-privacy 0.9.0, in its own environment, clips and accounts as we do."""

import importlib.util
import os
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_secure import privacy

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"
WORKER = PEERS / "parity_tensorflow_privacy.py"
INTERPRETER = "KERAS_SECURE_PEER_TENSORFLOW_PRIVACY"
ROWS = 16
# Examples, batch size, noise multiplier, epochs, delta.
SETTINGS = [
    (60000, 256, 1.1, 60, 1e-5),
    (60000, 600, 2.0, 15, 1e-5),
    (10000, 100, 0.7, 3, 1e-4),
    (2000, 200, 4.0, 40, 1e-3),
]
pytestmark = pytest.mark.slow


def interpreter():
    """The Python of tensorflow-privacy's environment, or a skip that says how to give it."""
    given = os.environ.get(INTERPRETER)
    for candidate in [given] if given else sorted(PEERS.glob("env-tensorflow-privacy/bin/python")):
        if Path(candidate).exists():
            return str(candidate)
    pytest.skip(
        "no environment with tensorflow-privacy; build one (benchmarks/peers) or set "
        f"{INTERPRETER} to its Python"
    )


def worker_module():
    spec = importlib.util.spec_from_file_location(WORKER.stem, WORKER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_worker(folder, **exported):
    np.savez(folder / "exported.npz", **exported)
    done = subprocess.run(
        [interpreter(), str(WORKER), "exported.npz", "results.npz"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(folder / "results.npz") as results:
        return dict(results)


def exported_model(kind):
    """The model with weights of no initializer, a batch for it, and a bound that clips half."""
    worker = worker_module()
    model = worker.build(keras, kind)
    rng = np.random.default_rng(5)
    for variable in model.weights:
        variable.assign(variable + 0.1 * rng.normal(size=variable.shape))
    _, shape, dtype = worker.MODELS[kind]
    if dtype == "int32":
        x = rng.integers(0, 60, (ROWS, *shape)).astype(dtype)
    else:
        x = rng.normal(size=(ROWS, *shape)) * rng.uniform(0.1, 3, (ROWS, *([1] * len(shape))))
        x = x.astype(dtype)
    return model, x, rng.integers(0, 10, ROWS).astype("int32")


def our_clipped_sum(model, x, y, clip):
    def losses():
        logits = model(x, training=True)
        return keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True), None

    found, _, _ = privacy.PerExampleClipping(model).clipped_sum(
        losses, l2_norm_clip=clip, batch_size=ROWS
    )
    return [np.asarray(value, "float64") for value in found.values], np.asarray(found.norms)


@pytest.mark.parametrize(("kind", "least"), [("mlp", 4), ("cnn", 3), ("text", 3)])
def test_clipped_gradients_are_equal(kind, least, tmp_path):
    model, x, y = exported_model(kind)
    _, norms = our_clipped_sum(model, x, y, 1.0)
    clip = float(np.median(norms))
    ours, _ = our_clipped_sum(model, x, y, clip)
    assert 0 < np.mean(norms > clip) < 1
    weights = {f"weight_{i}": value for i, value in enumerate(model.get_weights())}
    theirs = run_worker(tmp_path, kind=kind, x=x, y=y, clip=clip, **weights)
    ways = {name.split("/")[0] for name in theirs if not name.endswith("/failed")}
    scale = np.sqrt(sum(np.sum(value**2) for value in ours))
    for way in sorted(ways):
        errors = [value - theirs[f"{way}/{i}"] for i, value in enumerate(ours)]
        error = np.sqrt(sum(np.sum(e**2) for e in errors)) / scale
        print(f"\n{kind}, {way}: relative error {error:.1e}")
        assert error <= 1e-5, way
    for name in theirs:
        if name.endswith("/failed"):
            print(f"\n{kind}, {name}: {theirs[name]}")
    assert len(ways) >= least
    # The comparison means something: without the clip the sum is another.
    unclipped, _ = our_clipped_sum(model, x, y, 1e6)
    distance = sum(np.sum((a - b) ** 2) for a, b in zip(ours, unclipped, strict=True))
    assert np.sqrt(distance) / scale > 0.05


def our_epsilon(setting, accountant):
    examples, batch_size, noise, epochs, delta = setting
    phase = privacy.Phase(
        privacy.PoissonSampling(batch_size / examples, examples),
        noise,
        1.0,
        batch_size,
        steps=int(np.ceil(epochs * examples / batch_size)),
    )
    return privacy.epsilon(phase, delta, accountant=accountant)


def test_epsilons_are_equal(tmp_path):
    model, x, y = exported_model("mlp")
    weights = {f"weight_{i}": value for i, value in enumerate(model.get_weights())}
    found = run_worker(tmp_path, kind="mlp", x=x, y=y, clip=1.0, settings=SETTINGS, **weights)
    for setting, (old, rdp, pld) in zip(SETTINGS, found["epsilon"], strict=True):
        ours = our_epsilon(setting, "rdp"), our_epsilon(setting, "pld")
        print(
            f"\n{setting}: theirs {old:.6f} {rdp:.6f} {pld:.6f}, ours {ours[0]:.6f} {ours[1]:.6f}"
        )
        assert ours[0] == pytest.approx(rdp, rel=1e-6)
        assert ours[1] == pytest.approx(pld, rel=1e-4)
        # It tries fewer orders, so it may lie above the others, and by little.
        assert rdp * (1 - 1e-6) <= old <= 1.02 * rdp
