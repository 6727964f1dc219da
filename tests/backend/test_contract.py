"""The contract is complete, and nothing beyond it is reached through the seam."""

import inspect

import keras
import pytest

from keras_secure import backend
from keras_secure.backend import contract, tensorflow

PROMISED = sorted(
    name for name, value in vars(contract.Backend).items() if isinstance(value, staticmethod)
)


def test_tensorflow_offers_what_is_promised_and_nothing_else():
    assert len(PROMISED) >= 16
    assert tensorflow.__all__ == PROMISED
    public = {
        name
        for name, value in vars(tensorflow).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert sorted(public) == PROMISED


@pytest.mark.parametrize("name", PROMISED)
def test_arguments_are_the_promised_ones(name):
    def arguments(function):
        return [
            (parameter.name, parameter.kind, parameter.default)
            for parameter in inspect.signature(function).parameters.values()
        ]

    promised, offered = getattr(contract.Backend, name), getattr(tensorflow, name)
    assert arguments(offered) == arguments(promised)
    assert inspect.getdoc(promised)
    assert f"contract.Backend.{name}`" in offered.__doc__


@pytest.mark.parametrize("name", PROMISED)
def test_the_seam_leads_to_the_implementation(name):
    assert getattr(backend, name) is getattr(tensorflow, name)


@pytest.mark.parametrize("name", ["matmul", "_is_protocol", "__abstractmethods__x"])
def test_what_is_not_promised_is_not_there(name):
    with pytest.raises(AttributeError, match=f"no function '{name}'"):
        getattr(backend, name)


def test_another_framework_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match=r"'jax'.*KERAS_BACKEND=tensorflow"):
        _ = backend.normal


def test_the_framework_is_named():
    name, version = backend.framework_version()
    assert name == "tensorflow"
    assert int(version.split(".")[0]) >= 2
