"""Hardening an existing classifier."""

import json

import keras
import numpy as np
import pytest

import keras_secure as ks
from keras_secure.attacks import FGSM, PGD
from keras_secure.errors import InputError, PrivacyError
from keras_secure.repair import harden

QUICK = {"stronger_attacks": [PGD(0.1, steps=10, seed=3)], "epochs": 12}


@pytest.fixture(scope="module")
def plain(digits):
    """Weights of a classifier of digits that was trained without attacks."""
    keras.utils.set_random_seed(3)
    model = build()
    model.compile(keras.optimizers.Adam(3e-3), loss())
    model.fit(digits[0][:1000], digits[1][:1000], epochs=12, batch_size=64, verbose=0)
    return model.get_weights()


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def build(weights=None, activation=None):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(12, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation=activation),
        ]
    )
    if weights is not None:
        model.set_weights(weights)
    return model


def test_a_target_is_met_at_a_bounded_cost(digits, plain):
    x, y = digits
    model = build(plain)
    report = harden(
        model,
        (x, y),
        PGD(0.1, steps=7, seed=0),
        target_robust_accuracy=0.7,
        max_clean_drop=0.05,
        batch_size=64,
        **QUICK,
    )
    before, after = report.by_given_attack
    assert before.high < 0.7 < after.high
    assert after.low > before.high
    assert report.met
    assert not report.restored
    assert report.findings[0].severity in ("ok", "low")
    # Training ended with the first epoch that met both.
    *earlier, last = report.history
    assert last["robust"] >= 0.7
    assert last["clean"] >= report.history[0]["clean"] - 0.05
    assert not any(
        row["robust"] >= 0.7 and row["clean"] >= report.history[0]["clean"] - 0.05
        for row in earlier
    )
    assert report.epochs == len(earlier) == last["epoch"]
    # The model has the weights that were reported on, and is as the user left it otherwise.
    again = ks.attacks.evaluate(model, x, y, PGD(0.1, steps=7, seed=0), from_logits=True, verbose=0)
    assert again.worst_case.value > 0.6
    assert not model.compiled
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert content["after"]["clean"]["low"] <= content["after"]["clean"]["accuracy"]
    assert "under stronger attacks" in str(report)


@pytest.mark.parametrize("keep_best", [False, True])
def test_a_target_out_of_reach_restores_the_weights(digits, plain, keep_best):
    x, y = digits
    model = build(plain, "softmax")
    model.compile("sgd", "sparse_categorical_crossentropy")
    report = harden(
        model,
        (x[:400], y[:400]),
        FGSM(0.1),
        target_robust_accuracy=1.0,
        max_clean_drop=0.2,
        stronger_attacks=[],
        epochs=2,
        warmup_epochs=0,
        keep_best=keep_best,
    )
    assert not report.met
    assert report.epochs == 2
    assert report.findings[0].severity == "high"
    assert report.findings[0].remedy
    unchanged = all(np.array_equal(a, b) for a, b in zip(model.get_weights(), plain, strict=True))
    assert report.restored is unchanged is not keep_best
    assert ("original weights were restored" in str(report)) is unchanged
    assert model.loss == "sparse_categorical_crossentropy"


def test_a_target_that_only_the_given_attack_confirms_is_refuted(digits, plain):
    x, y = digits
    model = build(plain)
    # One step of almost nothing: everything seems robust.
    report = harden(
        model,
        (x, y),
        PGD(0.2, steps=1, step_size=1e-4, random_start=False),
        target_robust_accuracy=0.9,
        max_clean_drop=0.05,
        stronger_attacks=[PGD(0.2, steps=10, seed=0)],
        loss=loss(),
    )
    # The target holds before anything was trained, and the stronger attack says otherwise.
    assert report.epochs == 0
    assert not report.met
    assert "Stronger attacks leave" in report.findings[0].statement
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), plain, strict=True))


def test_an_interruption_restores_the_weights(digits, plain, monkeypatch):
    x, y = digits
    model = build(plain)

    def interrupted(self, *args, **kwargs):
        self.model.set_weights([np.zeros_like(each) for each in plain])
        raise KeyboardInterrupt

    monkeypatch.setattr(ks.SecureModel, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        harden(
            model,
            (x[:300], y[:300]),
            FGSM(0.1),
            target_robust_accuracy=1.0,
            max_clean_drop=0.0,
            stronger_attacks=[],
        )
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), plain, strict=True))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target_robust_accuracy": 70}, "target_robust_accuracy"),
        ({"max_clean_drop": -0.1}, "max_clean_drop"),
        ({"attack": FGSM(0.1, targeted=True)}, "untargeted"),
        ({"attack": FGSM(0.0)}, "above 0"),
        ({"attack": ks.attacks.Spatial(1.0)}, "objective"),
        ({"epochs": 0}, "epochs"),
        ({"data": np.zeros((10, 8, 8, 1))}, "pairs of arrays"),
        ({"data": (np.zeros((50, 8, 8, 1), "float32"), np.zeros(50, int))}, "at least 20"),
        ({"model": "model"}, "keras.Model"),
    ],
)
def test_arguments_are_checked(digits, change, words):
    options = {
        "model": build(),
        "data": digits,
        "attack": FGSM(0.1),
        "target_robust_accuracy": 0.5,
        "max_clean_drop": 0.1,
    } | change
    positional = [options.pop(name) for name in ("model", "data", "attack")]
    with pytest.raises(InputError, match=words):
        harden(*positional, **options)


def test_a_private_model_is_not_hardened_without_privacy(digits):
    x, y = digits
    model = build()
    secure = ks.SecureModel(model)
    secure.compile(
        ks.optimizers.DPOptimizer(
            keras.optimizers.SGD(0.1), l2_norm_clip=1.0, noise_multiplier=1.0
        ),
        loss(),
    )
    secure.fit(x[:64], y[:64], batch_size=64, epochs=1, verbose=0)
    with pytest.raises(PrivacyError, match="void"):
        harden(model, (x, y), FGSM(0.1), target_robust_accuracy=0.5, max_clean_drop=0.1)


class Plain(keras.Model):
    """A model that nothing can be read from."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, x):
        return self.dense(x)


def test_without_a_loss_it_is_said_what_to_give():
    x, y = np.full((120, 3), 0.5, "float32"), np.arange(120) % 2
    bounds = {"target_robust_accuracy": 0.5, "max_clean_drop": 0.1}
    with pytest.raises(InputError, match=r"no loss.*loss=keras\.losses"):
        harden(Plain(), (x, y), FGSM(0.1), **bounds)
    with pytest.raises(InputError, match=r"pairs of arrays \(x, y\), not ndarray.*Gather"):
        harden(Plain(), x, FGSM(0.1), **bounds)
