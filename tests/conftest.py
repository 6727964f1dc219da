"""Fixtures shared by all tests."""

import functools
import os
import sys
from pathlib import Path

import hypothesis
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
sys.path.insert(0, str(Path(__file__).parent / "harness"))


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
