"""Fixtures shared by all tests."""

import functools
import gc
import os
import sys
from pathlib import Path

gc.disable()  # until everything is imported
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
sys.path.insert(0, str(Path(__file__).parent / "harness"))

import hypothesis
import keras
import numpy as np
import pytest

# The same examples in every run, however busy the machine is; new ones come with
# `--hypothesis-profile=default`.
hypothesis.settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("repeatable")

SEED = 7


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    """What was imported stays: looking through it for garbage again and again takes 3 to 6% of the
    time. What is new is looked through as ever, the oldest of it less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 50)
    gc.enable()


@pytest.fixture(autouse=True)
def fixed_seed():
    """Every test starts from the same random state."""
    keras.utils.set_random_seed(SEED)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef):
    """What several tests share starts from it too: it is made before `fixed_seed` is."""
    if fixturedef.scope != "function":
        keras.utils.set_random_seed(SEED)
    return (yield)


@pytest.fixture(scope="session")
def digits():
    """scikit-learn's digits: x of shape (1797, 8, 8, 1) in [0, 1], y of shape (1797,)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = (bunch.images / 16.0).astype("float32")[..., None]
    order = np.random.default_rng(0).permutation(len(x))
    return x[order], bunch.target[order].astype("int32")


@pytest.fixture(scope="session")
def real_data():
    """The folder with real data sets, or a skip that says how to provide it."""
    folder = Path(
        os.environ.get("KERAS_SECURE_DATA", Path(__file__).parents[1].parent / "shared" / "data")
    )
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set KERAS_SECURE_DATA to a folder that has it")
    return folder


@pytest.fixture
def coarse_grid(monkeypatch):
    """Accounts for batches of static shape ten times as coarsely, for tests of other things."""
    from dp_accounting.pld import privacy_loss_distribution

    from keras_secure.privacy import composition
    from keras_secure.privacy.sampling import poisson

    name = "from_truncated_subsampled_gaussian_mechanism"
    fine = getattr(privacy_loss_distribution, name)
    coarse = functools.partial(fine, value_discretization_interval=1e-3)
    monkeypatch.setattr(privacy_loss_distribution, name, coarse)
    kept = (poisson._step_loss_distribution, composition._composed)
    for results in kept:
        results.cache_clear()
    yield
    for results in kept:
        results.cache_clear()
