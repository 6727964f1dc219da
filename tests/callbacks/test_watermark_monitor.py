import csv

import keras
import numpy as np
import pytest
from harness_callbacks import run_callback_harness, small_model

from keras_secure.callbacks.watermark_monitor import WatermarkMonitor
from keras_secure.errors import InputError
from keras_secure.watermark import SpreadSpectrum, attach, verify

LOGS = ("watermark_ber", "watermark_p_value")


@pytest.fixture
def data(digits):
    return digits[0][:24], digits[1][:24]


def harness_model(**options):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, name="top")]
    )
    model.compile(
        options.pop("optimizer", None) or keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **options,
    )
    return model


def test_behaves_as_a_callback(data, tmp_path):
    mark = SpreadSpectrum("key", num_bits=16)
    run_callback_harness(
        lambda: WatermarkMonitor("top", mark),
        data,
        tmp_path,
        logs=LOGS,
        measures_only=True,
        make_model=harness_model,
    )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_shows_the_mark_being_embedded(data, jit_compile):
    model = harness_model(jit_compile=jit_compile)
    layer, mark = model.get_layer("top"), SpreadSpectrum("key", num_bits=16)
    attach(layer, mark)
    before = verify(layer, mark)
    monitor = WatermarkMonitor(layer, mark)
    assert monitor.report == before
    history = model.fit(*data, batch_size=8, epochs=12, verbose=0, callbacks=[monitor]).history
    assert history["watermark_ber"][0] > 0
    assert history["watermark_ber"][-1] == 0.0
    assert history["watermark_p_value"][-1] == 2.0**-16
    assert len(history["watermark_ber"]) == 12
    assert monitor.report == verify(layer.kernel, mark)


def test_every_and_a_foreign_key(data):
    model = harness_model()
    mark = SpreadSpectrum("never embedded", num_bits=16)
    history = model.fit(
        *data, epochs=5, verbose=0, callbacks=[WatermarkMonitor(model.layers[-1].kernel, mark, 2)]
    ).history
    assert len(history["watermark_ber"]) == 3
    assert len(history["loss"]) == 5
    assert min(history["watermark_p_value"]) > 1e-3


def test_the_csv_file_has_the_columns(data, tmp_path):
    model, mark = harness_model(), SpreadSpectrum("key", num_bits=16)
    model.fit(
        *data,
        epochs=3,
        verbose=0,
        callbacks=[
            WatermarkMonitor("top", mark, every=2),
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        ],
    )
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["watermark_ber"] == "NA" for row in rows] == [False, True, False]
    assert float(rows[2]["watermark_p_value"]) > 0


def test_what_cannot_be_monitored_is_refused_before_training(data):
    model, mark = small_model(), SpreadSpectrum("key", num_bits=16)
    with pytest.raises(InputError, match="integer of at least 1"):
        WatermarkMonitor("top", mark, every=0)
    with pytest.raises(InputError, match="cannot be monitored"):
        WatermarkMonitor("top", "key")
    with pytest.raises(InputError, match="without its key"):
        WatermarkMonitor(model.layers[1], SpreadSpectrum.from_config(mark.get_config()))
    with pytest.raises(InputError, match="need 512"):
        WatermarkMonitor(model.layers[-1], SpreadSpectrum("key", num_bits=64))
    before = model.get_weights()
    with pytest.raises(InputError, match="no layer or weight 'nothing'"):
        model.fit(*data, verbose=0, callbacks=[WatermarkMonitor("nothing", mark)])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
