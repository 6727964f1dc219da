"""For the examples in the docstrings, which `pytest --doctest-modules` runs."""

# With Keras there first, every room is loaded whole before pytest looks into its files.
import keras
import pytest


@pytest.fixture(autouse=True)
def fixed_seed():
    """Every example starts from the same random state."""
    keras.utils.set_random_seed(7)
