"""MembershipInference: what it logs, when, and that it changes nothing."""

import keras
import numpy as np
import pytest
from harness_callbacks import run_callback_harness, small_model

import keras_secure as ks
from keras_secure.callbacks import MembershipInference
from keras_secure.errors import InputError
from keras_secure.leakage import membership_losses, threshold_membership_attack

NAMES = [
    *("membership_auc", "membership_auc_low", "membership_auc_high"),
    *("membership_tpr_at_0.001", "membership_tpr_at_0.01", "membership_tpr_at_0.1"),
]


@pytest.fixture
def groups(digits):
    x, y = digits
    return (x[:40], y[:40]), (x[40:80], y[40:80])


def test_behaves_like_a_keras_callback(groups, tmp_path):
    members, others = groups
    run_callback_harness(
        lambda: MembershipInference(members, others),
        (members[0][:24], members[1][:24]),
        tmp_path,
        logs=NAMES,
        measures_only=True,
    )


def test_logs_are_those_of_the_attack_on_the_model_as_it_is(groups):
    members, others = groups
    model = small_model()
    callback = MembershipInference(members, others, every=2)
    history = model.fit(*members, epochs=4, verbose=0, callbacks=[callback]).history
    expected = threshold_membership_attack(
        membership_losses(model, *members), membership_losses(model, *others)
    )
    assert callback.report == expected
    measured = [history[name][-1] for name in NAMES]
    tprs = [point.tpr for point in expected.tpr_at_fpr]
    assert measured == [expected.auc, *expected.auc_interval, *tprs]
    for name in NAMES:
        np.testing.assert_array_equal(np.isnan(history[name]), [True, False, True, False])


def test_memorizing_shows(groups):
    (x, _), others = groups
    # Labels that can only be known by heart.
    y = np.random.default_rng(0).integers(0, 10, len(x)).astype("int32")
    shuffled = others[0], np.random.default_rng(1).integers(0, 10, 40).astype("int32")
    model = small_model(optimizer=keras.optimizers.Adam(0.05))
    callbacks = [MembershipInference((x, y), shuffled, every=24)]
    history = model.fit(x, y, epochs=48, verbose=0, callbacks=callbacks).history
    assert history["membership_auc"][-1] > 0.9
    assert history["membership_auc"][-1] >= history["membership_auc"][23]
    assert history["membership_auc_low"][-1] > 0.8


def test_early_stopping_sees_it(groups):
    members, others = groups
    model = small_model(optimizer=keras.optimizers.SGD(0.0))
    callbacks = [
        MembershipInference(members, others),
        keras.callbacks.EarlyStopping("membership_auc", mode="min", patience=1),
    ]
    assert len(model.fit(*members, epochs=5, verbose=0, callbacks=callbacks).epoch) == 2


def test_the_wrapped_model_is_measured(groups):
    members, others = groups
    inner = small_model()
    secure = ks.SecureModel(inner)
    secure.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    callback = MembershipInference(members, others)
    secure.fit(*members, verbose=0, callbacks=[callback])
    expected = threshold_membership_attack(
        membership_losses(inner, *members), membership_losses(inner, *others)
    )
    assert callback.report == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"members": np.zeros((3, 2))}, r"members cannot be used.*\(x, y\)"),
        ({"non_members": (np.zeros((3, 2)), [0, 1])}, r"non_members.*\[2, 3\]"),
        ({"members": (np.zeros((1, 2)), [0])}, "2 or more"),
        ({"every": 0}, "every=0"),
        ({"confidence": 1.0}, "confidence"),
    ],
)
def test_what_cannot_work_is_refused_before_training(changes, words):
    data = np.zeros((3, 2)), np.zeros(3, int)
    with pytest.raises(InputError, match=words):
        MembershipInference(**{"members": data, "non_members": data, **changes})
