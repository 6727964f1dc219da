"""Robust accuracy in the logs of `fit`."""

import csv

import keras
import numpy as np
import pytest

from keras_secure.attacks import FGM, FGSM, PGD, evaluate
from keras_secure.callbacks.robustness_evaluation import RobustnessEvaluation
from keras_secure.errors import InputError
from keras_secure.objectives import AdversarialTraining
from keras_secure.training import SecureModel


def classifier(activation="softmax"):
    return keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, activation)]
    )


@pytest.fixture
def small(digits):
    x, y = digits
    return x[:200], y[:200]


def test_history_has_what_evaluate_measures(small):
    model = classifier()
    model.compile("adam", "sparse_categorical_crossentropy")
    attack = PGD(0.05, steps=4, random_start=False)
    callback = RobustnessEvaluation(attack, small)
    history = model.fit(*small, epochs=3, verbose=0, callbacks=[callback]).history
    report = evaluate(model, *small, attack, verbose=0)
    assert history["val_robust_accuracy"][-1] == report.worst_case.value
    assert history["val_robust_accuracy_low"][-1] == report.worst_case.low
    assert history["val_robust_accuracy_high"][-1] == report.worst_case.high
    assert set(history) == {
        "loss",
        "val_robust_accuracy",
        "val_robust_accuracy_low",
        "val_robust_accuracy_high",
    }
    assert callback.report.to_dict() == report.to_dict()


def test_several_attacks_are_listed_and_csv_keeps_every_column(small, tmp_path):
    model = classifier()
    model.compile("adam", "sparse_categorical_crossentropy")
    path = tmp_path / "log.csv"
    callbacks = [
        RobustnessEvaluation(
            [FGSM(0.05), FGM(0.2)], small, every=2, max_examples=40, prefix="robust/"
        ),
        keras.callbacks.CSVLogger(str(path)),
    ]
    history = model.fit(*small, epochs=4, verbose=0, callbacks=callbacks).history
    with path.open() as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name.startswith("robust/")]
    assert set(names) == {
        "robust/robust_accuracy",
        "robust/robust_accuracy_low",
        "robust/robust_accuracy_high",
        "robust/robust_accuracy_fgsm",
        "robust/robust_accuracy_fgm",
    }
    for name in names:
        assert np.isnan(history[name][::2]).all()
        assert np.isfinite(history[name][1::2]).all()
        assert float(rows[3][name]) == history[name][3]
    assert history["robust/robust_accuracy"][3] <= history["robust/robust_accuracy_fgsm"][3]


def test_max_examples_are_spread_over_the_data(small):
    x, y = small
    order = np.argsort(y, kind="stable")
    callback = RobustnessEvaluation(FGSM(0.1), (x[order], y[order]), max_examples=30)
    kept_x, kept_y = callback._data
    assert len(kept_x) == len(kept_y) == 30
    assert set(kept_y) == set(range(10))
    whole = RobustnessEvaluation(FGSM(0.1), (x, np.eye(10)[y]), max_examples=1000)
    np.testing.assert_array_equal(whole._data[1], y)


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_a_secure_model_is_attacked_by_what_it_was_compiled_with(small, activation):
    inner = classifier(activation)
    secure = SecureModel(inner, AdversarialTraining(FGSM(0.05)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=activation is None)
    secure.compile("adam", loss)
    callback = RobustnessEvaluation(FGSM(0.05), small)
    history = secure.fit(*small, epochs=1, verbose=0, callbacks=[callback]).history
    expected = evaluate(inner, *small, FGSM(0.05), verbose=0)
    assert history["val_robust_accuracy"] == [expected.worst_case.value]


def test_early_stopping_sees_it_and_training_is_not_disturbed(small):
    def fit(callbacks):
        keras.utils.set_random_seed(3)
        model = classifier()
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(*small, epochs=3, verbose=0, shuffle=False, callbacks=callbacks)
        return model.get_weights()

    with_attack = fit([RobustnessEvaluation(PGD(0.05, steps=2), small, max_examples=10)])
    for one, other in zip(with_attack, fit([]), strict=True):
        np.testing.assert_array_equal(one, other)

    model = classifier()
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    callbacks = [
        RobustnessEvaluation(FGSM(0.01), small, max_examples=10),
        keras.callbacks.EarlyStopping("val_robust_accuracy", mode="max", patience=1),
    ]
    assert len(model.fit(*small, epochs=5, verbose=0, callbacks=callbacks).epoch) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"every": 0}, "every"),
        ({"max_examples": 0}, "max_examples"),
        ({"validation_data": np.zeros((3, 2))}, r"\(x, y\)"),
        ({"validation_data": (np.zeros((3, 2)), [0, 1])}, "3 examples"),
        ({"validation_data": (np.zeros((3, 2), "uint8"), [0, 1, 2])}, "uint8"),
        ({"attacks": FGSM(0.1, targeted=True)}, "targeted"),
        ({"attacks": FGSM(0.1, bounds=(2, 3))}, "bounds"),
    ],
)
def test_what_cannot_work_is_refused_before_training(small, change, words):
    arguments = {"attacks": FGSM(0.1), "validation_data": small} | change
    with pytest.raises(InputError, match=words):
        RobustnessEvaluation(**arguments)
