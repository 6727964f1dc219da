"""What is wrapped is what is meant."""

import keras
import pytest

import keras_secure as ks
from keras_secure.training import inner_model


def test_only_a_wrapper_of_ours_is_taken_off():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.model = model

    own = Own()
    assert inner_model(ks.SecureModel(model)) is model
    assert inner_model(model) is model
    # Its `model` may be a part of what it computes.
    assert inner_model(own) is own


@pytest.mark.parametrize("monitor", ["WatermarkMonitor", "TriggerMonitor"])
def test_monitors_look_inside(monitor):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(8, name="head")])
    if monitor == "WatermarkMonitor":
        callback = ks.callbacks.WatermarkMonitor(
            "head", ks.watermark.SpreadSpectrum("key", num_bits=8)
        )
    else:
        callback = ks.callbacks.TriggerMonitor(ks.watermark.TriggerSet("key", (8,), 8, 8))
    readings = []
    for watched in (model, ks.SecureModel(model)):
        callback.set_model(watched)
        readings.append(callback.measure())
    assert repr(readings[0]) == repr(readings[1])
