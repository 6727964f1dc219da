"""The mark is embedded by whatever trains: fit, jit, SecureModel, differential privacy."""

import keras
import numpy as np
import pytest

from keras_secure import SecureModel
from keras_secure.callbacks import WatermarkMonitor
from keras_secure.optimizers import DPOptimizer
from keras_secure.watermark import SpreadSpectrum, attach, detach, verify


def small_model(seed=3):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(48, activation="relu", name="first"),
            keras.layers.Dense(48, activation="relu", name="second"),
            keras.layers.Dense(10, name="head"),
        ]
    )


@pytest.fixture(scope="module")
def data(digits):
    x, y = digits
    return x[:512].reshape(-1, 64), y[:512]


LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_spread_over_layers_by_ordinary_training(data, jit_compile):
    model, mark = small_model(), SpreadSpectrum("key")
    attach(model, mark)
    model.compile(keras.optimizers.Adam(3e-3), LOSS, jit_compile=jit_compile)
    monitor = WatermarkMonitor(None, mark)
    history = model.fit(*data, batch_size=64, epochs=12, verbose=0, callbacks=[monitor]).history
    assert history["watermark_ber"][0] > 0.2
    assert history["watermark_ber"][-1] < 0.02
    report = verify(model, mark)
    assert [reading.name for reading in report.readings] == ["all", "first/kernel", "second/kernel"]
    assert report.verdict == "proved"
    assert report.payload_matches
    detach(model)
    assert model.losses == []


def test_a_secure_model_embeds_it_too(data):
    model, mark = small_model(), SpreadSpectrum("key")
    attach(model, mark)
    secure = SecureModel(model)
    secure.compile(keras.optimizers.Adam(3e-3), LOSS)
    monitor = WatermarkMonitor(["first", "second"], mark)
    secure.fit(*data, batch_size=64, epochs=12, verbose=0, callbacks=[monitor])
    assert monitor.report == verify(model, mark, layers=["first", "second"])
    assert monitor.report.verdict == "proved"


def private(model, data, epochs, seed=11):
    secure = SecureModel(model)
    optimizer = DPOptimizer(
        keras.optimizers.Adam(3e-3), l2_norm_clip=1.0, noise_multiplier=1.0, seed=seed
    )
    secure.compile(optimizer, LOSS)
    secure.fit(*data, batch_size=64, epochs=epochs, verbose=0)
    return optimizer


def test_under_differential_privacy_it_is_embedded_and_costs_no_privacy(data):
    spent = []
    for carries in (False, True):
        model, mark = small_model(), SpreadSpectrum("key")
        if carries:
            attach(model, mark)
        optimizer = private(model, data, epochs=12)
        spent.append(optimizer.ledger.phases(optimizer.executed_steps))
        assert (verify(model, mark).verdict == "proved") is carries
    assert spent[0] == spent[1]


def test_the_penalty_s_gradient_is_outside_the_clip(data):
    """With a clip next to nothing what depends on data hardly moves, and the mark goes in."""
    model, mark = small_model(), SpreadSpectrum("key", strength=1.0)
    attach(model, mark)
    secure = SecureModel(model)
    optimizer = keras.optimizers.SGD(1.0)
    secure.compile(DPOptimizer(optimizer, l2_norm_clip=1e-6, noise_multiplier=1.0, seed=1), LOSS)
    head = keras.ops.convert_to_numpy(model.get_layer("head").kernel)
    secure.fit(*data, batch_size=64, epochs=25, verbose=0)
    assert verify(model, mark).verdict == "proved"
    np.testing.assert_allclose(model.get_layer("head").kernel, head, atol=1e-4)
