"""Bits flipped in the memory of live weights are noticed, named and put right."""

import ctypes

import keras
import numpy as np
import pytest

from keras_secure import backend
from keras_secure.callbacks import WeightIntegrity
from keras_secure.errors import InputError, IntegrityError
from keras_secure.export import bundle as bundle_module
from keras_secure.export import export_hardened
from keras_secure.integrity import generate_key_pair, sign
from keras_secure.training import SecureModel

X = np.random.default_rng(0).random((32, 8)).astype("float32")
Y = X[:, :2]


def flip(variable, bit=30):
    """Flips one bit where the weights lie, as failing memory does: nobody is told."""
    array = backend.host_array(variable)
    address = array.ctypes.data + bit // 8
    before = ctypes.c_ubyte.from_address(address).value
    ctypes.c_ubyte.from_address(address).value = before ^ 1 << bit % 8


class Fault(keras.callbacks.Callback):
    """Flips a bit at one event of `fit`, `evaluate` or `predict`."""

    def __init__(self, variable, event, number=1):
        super().__init__()
        self.variable, self.number, self.calls = variable, number, 0
        setattr(self, f"on_{event}", self.strike)

    def strike(self, *_, **__):
        self.calls += 1
        if self.calls == self.number:
            flip(self.variable)


@pytest.fixture
def model():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, activation="relu", name="body"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(2, name="head"),
        ]
    )
    model.compile("adam", "mse")
    return model


def freeze(model):
    for name in ("body", "norm"):
        model.get_layer(name).trainable = False
    model.compile("adam", "mse")
    return model


def weights(model):
    return [np.array(value) for value in model.get_weights()]


def test_training_evaluation_and_prediction_change_nothing_unforeseen(model):
    guard = WeightIntegrity(share=0.5)
    for epochs in (2, 1):
        model.fit(X, Y, validation_data=(X, Y), epochs=epochs, verbose=0, callbacks=[guard])
        model.predict(X, verbose=0, callbacks=[guard])
    model.evaluate(X, Y, verbose=0, callbacks=[guard])
    assert guard.findings == []
    assert guard.check() == ()


def test_frozen_training_raises_no_false_alarm(model):
    guard = WeightIntegrity(share=1.0)
    freeze(model).fit(X, Y, batch_size=4, epochs=2, verbose=0, callbacks=[guard])
    assert guard.findings == []


def test_a_secure_model_is_watched_too(model):
    secure = SecureModel(model)
    secure.compile("adam", "mse")
    guard = WeightIntegrity(share=1.0)
    secure.fit(X, Y, epochs=2, verbose=0, callbacks=[guard])
    flip(model.get_layer("head").kernel)
    with pytest.raises(IntegrityError, match="head/kernel"):
        secure.fit(X, Y, verbose=0, callbacks=[guard])


@pytest.mark.parametrize("event", ["predict_batch_begin", "predict_begin"])
def test_a_bit_flipped_during_prediction_raises(model, event):
    guard = WeightIntegrity(share=1.0)
    model.predict(X, verbose=0, callbacks=[guard])
    fault = Fault(model.get_layer("head").kernel, event)
    with pytest.raises(IntegrityError, match="head/kernel"):
        model.predict(X, batch_size=8, verbose=0, callbacks=[fault, guard])
    (finding,) = guard.findings
    assert finding.id == "integrity.memory"
    assert finding.severity == "critical"
    assert finding.evidence["weights"] == [model.get_layer("head").kernel.path]
    assert not finding.evidence["restored"]


def test_a_rotating_part_finds_it_within_a_round(model):
    guard = WeightIntegrity(share=0.1)
    model.predict(X, verbose=0, callbacks=[guard])
    flip(model.get_layer("norm").moving_variance)
    guard._digests.check = lambda: ()
    with pytest.raises(IntegrityError, match="norm/moving_variance"):
        model.predict(X, batch_size=1, verbose=0, callbacks=[guard])
    assert "in prediction batch" in guard.findings[0].evidence["when"]


def test_weights_are_restored_and_results_with_them(model):
    guard = WeightIntegrity(share=1.0, on_change="restore")
    expected = model.predict(X, verbose=0, callbacks=[guard])
    before = weights(model)
    for name in ("body", "head"):
        flip(model.get_layer(name).kernel)
    np.testing.assert_array_equal(model.predict(X, verbose=0, callbacks=[guard]), expected)
    np.testing.assert_equal(weights(model), before)
    assert guard.findings[0].evidence == {
        "weights": [model.get_layer(name).kernel.path for name in ("body", "head")],
        "when": "when prediction began",
        "restored": True,
    }


def test_a_change_between_two_epochs_is_found(model):
    guard = WeightIntegrity(share=0.0)
    fault = Fault(model.get_layer("body").bias, "epoch_begin", number=2)
    with pytest.raises(IntegrityError, match=r"before epoch 1.*body/bias"):
        model.fit(X, Y, epochs=3, verbose=0, callbacks=[fault, guard])


def test_a_change_between_two_fits_is_found_unless_it_is_accepted(model):
    guard = WeightIntegrity()
    model.fit(X, Y, verbose=0, callbacks=[guard])
    model.get_layer("head").set_weights([np.ones((16, 2)), np.zeros(2)])
    with pytest.raises(IntegrityError, match="head/kernel"):
        model.fit(X, Y, verbose=0, callbacks=[guard])
    guard.accept()
    model.fit(X, Y, verbose=0, callbacks=[guard])


def test_frozen_weights_are_watched_while_others_train(model):
    freeze(model)
    guard = WeightIntegrity(share=1.0, on_change="restore")
    before = weights(model.get_layer("body"))
    fault = Fault(model.get_layer("body").kernel, "train_batch_begin", number=3)
    model.fit(X, Y, batch_size=4, epochs=1, verbose=0, callbacks=[fault, guard])
    assert guard.findings[0].evidence["weights"] == [model.get_layer("body").kernel.path]
    assert "in training batch 2" in guard.findings[0].statement
    np.testing.assert_equal(weights(model.get_layer("body")), before)


def test_a_change_during_validation_is_found(model):
    guard = WeightIntegrity(share=0.0)
    fault = Fault(model.get_layer("head").kernel, "test_batch_end")
    with pytest.raises(IntegrityError, match="when evaluation ended"):
        model.fit(X, Y, validation_data=(X, Y), verbose=0, callbacks=[fault, guard])


def test_restored_from_a_signed_file(model, tmp_path):
    private_key, public_key = generate_key_pair()
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    sign(path, private_key)
    guard = WeightIntegrity(share=1.0, on_change="restore", copy=path, trust=public_key)
    expected = model.predict(X, verbose=0, callbacks=[guard])
    flip(model.get_layer("head").kernel)
    np.testing.assert_array_equal(model.predict(X, verbose=0, callbacks=[guard]), expected)
    assert guard.findings[0].evidence["restored"]
    flip(model.get_layer("head").kernel)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="refused"):
        model.predict(X, verbose=0, callbacks=[guard])


def test_a_copy_that_is_damaged_itself_restores_nothing(model):
    guard = WeightIntegrity(on_change="restore")
    model.predict(X, verbose=0, callbacks=[guard])
    guard._kept[model.get_layer("head").kernel.path][0, 0] += 1
    flip(model.get_layer("head").kernel)
    with pytest.raises(IntegrityError, match="cannot be restored"):
        model.predict(X, verbose=0, callbacks=[guard])


@pytest.mark.parametrize(
    "options",
    [
        {"share": 2},
        {"on_change": "ignore"},
        {"copy": "file"},
        {"copy": "file", "trust": b"key"},
        {"copy": "file", "on_change": "restore"},
    ],
)
def test_arguments_that_cannot_be_used(options):
    with pytest.raises(InputError):
        WeightIntegrity(**options)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(500), keras.layers.Dense(2)])
    return export_hardened(
        model,
        tmp_path_factory.mktemp("serving") / "bundle",
        private_key=generate_key_pair()[0],
        constant_weights=False,
    )


def loaded(bundle, monkeypatch, share):
    """The serving function, and the variables that it computes with."""
    seen = {}
    load = backend.load_served_model

    def watched_load(path, name):
        function, variables = load(path, name)
        seen.update(variables)
        return function, variables

    monkeypatch.setattr(bundle_module.backend, "load_served_model", watched_load, raising=False)
    return bundle.load(check_weights=share), seen


def test_a_loaded_bundle_refuses_to_answer_with_changed_weights(bundle, monkeypatch):
    serve, variables = loaded(bundle, monkeypatch, 0.05)
    expected = serve(X)["predictions"]
    for _ in range(50):
        np.testing.assert_array_equal(serve(X)["predictions"], expected)
    name, kernel = max(variables.items(), key=lambda item: np.prod(item[1].shape))
    flip(kernel)

    def until_found():
        # What a round saw just before is seen again by the end of the next.
        for _ in range(42):
            serve(X)

    with pytest.raises(IntegrityError, match=name):
        until_found()
    with pytest.raises(IntegrityError, match=name):
        serve(X)
    np.testing.assert_array_equal(bundle.load(check_weights=1.0)(X)["predictions"], expected)


def test_a_bundle_checks_nothing_unless_it_is_asked_to(bundle, monkeypatch):
    serve, variables = loaded(bundle, monkeypatch, 0.0)
    flip(next(iter(variables.values())))
    assert serve(X)["predictions"].shape == (32, 2)
    with pytest.raises(InputError):
        bundle.load(check_weights=2)
