"""What tests and the examples in docstrings, run by `pytest --doctest-modules`, have in common."""

import gc
import os

gc.disable()  # until everything is imported
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

# With Keras there first, every room is loaded whole before pytest looks into its files.
import keras
import pytest

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
    """Every test and every example starts from the same random state."""
    keras.utils.set_random_seed(SEED)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef):
    """What several tests share starts from it too: it is made before `fixed_seed` is."""
    if fixturedef.scope != "function":
        keras.utils.set_random_seed(SEED)
    return (yield)
