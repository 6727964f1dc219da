import keras
import numpy as np
import pytest
from harness_callbacks import run_callback_harness, small_model

import keras_secure as ks
from keras_secure.callbacks import TriggerMonitor
from keras_secure.errors import InputError, PrivacyWarning
from keras_secure.watermark import TriggerSet, verify_triggers

TRIGGERS = TriggerSet("key", (8, 8, 1), 10, count=30)


@pytest.fixture
def data(digits):
    return digits[0][:24], digits[1][:24]


def test_behaves_as_a_callback(data, tmp_path):
    run_callback_harness(
        lambda: TriggerMonitor(TRIGGERS),
        data,
        tmp_path,
        logs=("trigger_accuracy", "trigger_p_value"),
        measures_only=True,
    )


def test_shows_the_triggers_being_learned_and_measures_what_verify_does(data):
    model, monitor = small_model(optimizer=keras.optimizers.Adam(0.03)), TriggerMonitor(TRIGGERS, 5)
    x, y = TRIGGERS.mix(*data)
    history = model.fit(x, y, epochs=21, batch_size=16, verbose=0, callbacks=[monitor]).history
    assert len(history["trigger_accuracy"]) == 5
    assert history["trigger_accuracy"][0] < 0.5 < 0.8 < history["trigger_accuracy"][-1]
    assert history["trigger_p_value"][-1] < 2**-40
    assert monitor.report == verify_triggers(model, TRIGGERS)


def test_private_training_is_warned_of(data):
    secure = ks.SecureModel(small_model())
    optimizer = ks.optimizers.DPOptimizer(
        keras.optimizers.SGD(0.1), l2_norm_clip=1.0, noise_multiplier=1.0
    )
    secure.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.warns(PrivacyWarning, match="known by heart"):
        secure.fit(*data, batch_size=8, verbose=0, callbacks=[TriggerMonitor(TRIGGERS)])


def test_what_cannot_be_monitored_is_refused_before_training(data):
    with pytest.raises(InputError, match="integer of at least 1"):
        TriggerMonitor(TRIGGERS, every=0)
    with pytest.raises(InputError, match="cannot be monitored"):
        TriggerMonitor("key")
    model = small_model()
    before = model.get_weights()
    other = TriggerSet("key", (8, 8, 1), 7, count=30)
    with pytest.raises(InputError, match="expected"):
        model.fit(*data, verbose=0, callbacks=[TriggerMonitor(other)])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
