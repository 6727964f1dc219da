"""Where the guarantee would break, training is refused and the message says what to do."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import keras_secure as ks
from keras_secure.callbacks.privacy_budget import PrivacyBudget
from keras_secure.errors import (
    BudgetExhaustedError,
    InputError,
    PrivacyError,
    PrivacyWarning,
)

X = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
Y = (X[:, :1] > 0).astype("float32")


def plan(**changes):
    values = {"l2_norm_clip": 1.0, "noise_multiplier": 1.0, **changes}
    return ks.optimizers.DPSGD(0.1, **values)


def private(*parts, loss="mse", **changes):
    model = keras.Sequential([keras.Input((4,)), *parts, layers.Dense(1)])
    secure = ks.SecureModel(model)
    secure.compile(plan(**changes), loss=loss)
    return secure


def fit(secure, **options):
    return secure.fit(X, Y, **{"batch_size": 8, "verbose": 0, **options})


def test_plain_model_with_a_private_optimizer_raises_at_the_first_step():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    before = model.get_weights()
    for options in ({}, {"run_eagerly": True}, {"steps_per_execution": 2}):
        model.compile(plan(), loss="mse", **options)
        with pytest.raises(PrivacyError, match=r"Wrap the model.*SecureModel\(model\)"):
            model.fit(X, Y, verbose=0)
    for first, second in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


class Mixer(layers.Layer):
    def call(self, inputs):
        return inputs - ops.mean(inputs, axis=0)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (layers.BatchNormalization, "GroupNormalization"),
        (Mixer, "Remove what mixes"),
        (lambda: layers.Dense(3, activity_regularizer="l2"), "Move them into the compiled loss"),
    ],
)
def test_models_that_cannot_be_private_are_refused_before_any_step(part, message):
    secure = private(part())
    with pytest.raises(PrivacyError, match=message):
        fit(secure)
    assert secure.optimizer.executed_steps == 0


def test_unfreezing_between_compiles_is_noticed():
    secure = private(layers.BatchNormalization(), expected_batch_size=8)
    secure.model.layers[0].trainable = False
    secure.compile(secure.optimizer, loss="mse")
    secure.train_on_batch(X[:8], Y[:8])
    secure.model.layers[0].trainable = True
    secure.compile(secure.optimizer, loss="mse")
    with pytest.raises(PrivacyError, match="BatchNormalization"):
        secure.train_on_batch(X[:8], Y[:8])
    assert secure.optimizer.executed_steps == 1


def test_losses_that_mix_examples_are_refused():
    def centred(y, p):
        return ops.square(p - ops.mean(p, axis=0))[:, 0]

    def over_examples(y, p):
        return ops.mean(ops.square(p - y), axis=0)

    with pytest.raises(PrivacyError, match=r"loss of one example changes.*own targets"):
        fit(private(loss=centred))
    with pytest.raises(PrivacyError, match=r"shape \(1,\) for 3 examples.*one value per example"):
        fit(private(loss=over_examples))
    with pytest.raises(InputError, match="one number for the whole batch"):
        fit(private(loss=lambda y, p: ops.mean(ops.square(p - y))))


def test_data_without_a_fixed_divisor_is_refused():
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    with pytest.raises(PrivacyError, match=r"expected_batch_size=\.\.\.\)"):
        private().fit(data, verbose=0)
    with pytest.raises(PrivacyError, match="fixed number"):
        private().train_on_batch(X[:8], Y[:8])


def test_generators_are_refused():
    def batches():
        yield X[:8], Y[:8]

    secure = private(expected_batch_size=8)
    with pytest.raises(PrivacyError, match=r"read only once.*Give arrays, a PyDataset"):
        secure.fit(batches(), verbose=0)


def test_unknown_distribution_strategies_are_refused():
    strategy = tf.distribute.experimental.CentralStorageStrategy()
    with strategy.scope():
        secure = private()
    with pytest.raises(PrivacyError, match=r"CentralStorage.*MirroredStrategy"):
        fit(secure)


def test_private_steps_cannot_be_voided_by_training_without_privacy():
    secure = private()
    fit(secure)
    with pytest.raises(PrivacyError, match=r"5 private steps.*Compile with a DPOptimizer"):
        secure.compile("sgd", loss="mse")
    used = plan()
    other = private()
    other.compile(used, loss="mse")
    fit(other)
    with pytest.raises(PrivacyError, match="fresh DPOptimizer"):
        secure.compile(used, loss="mse")


def test_two_kinds_of_metrics_are_refused():
    secure = ks.SecureModel(keras.Sequential([keras.Input((4,)), layers.Dense(1)]))
    with pytest.raises(PrivacyError, match="either `metrics` or `weighted_metrics`"):
        secure.compile(plan(), loss="mse", metrics=["mae"], weighted_metrics=["mse"])


def test_steps_outside_fit_are_refused():
    secure = private()
    with pytest.raises(PrivacyError, match=r"outside fit.*SecureModel\.fit"):
        secure.train_step((X[:8], Y[:8]))


@pytest.mark.parametrize("size", [0, -3, 41])
def test_impossible_batch_sizes_are_refused(size):
    if size == 0:
        pytest.skip("Keras takes no batch size for its default")
    with pytest.raises(InputError, match="between 1 and 40"):
        fit(private(), batch_size=size)


def test_arrays_that_do_not_fit_together_are_refused():
    with pytest.raises(InputError, match=r"different numbers of examples: \[39, 40\]"):
        private().fit(X, Y[:39], verbose=0)
    with pytest.raises(InputError, match="leaves no examples"):
        fit(private(), validation_split=0.999)
    with pytest.raises(InputError, match=r"class_weight lacks the classes"):
        fit(private(), class_weight={0: 1.0})
    with pytest.raises(PrivacyError, match="at least 3"):
        private().fit(X[:2], Y[:2], batch_size=1, verbose=0)


def test_spent_budget_is_not_trained_beyond_in_silence():
    secure = private(noise_multiplier=4.0, expected_batch_size=8)
    budget = PrivacyBudget(0.8, 1e-3)
    fit(secure, epochs=50, callbacks=[budget])
    spent = secure.optimizer.executed_steps
    for attempt in (lambda: fit(secure), lambda: secure.train_on_batch(X[:8], Y[:8])):
        with pytest.raises(BudgetExhaustedError, match="lift_limit"):
            attempt()
    with pytest.raises(BudgetExhaustedError, match="one more step would cross"):
        fit(secure, callbacks=[PrivacyBudget(0.8, 1e-3)])
    assert secure.optimizer.executed_steps == spent
    fit(secure, callbacks=[PrivacyBudget(5.0, 1e-3)])
    assert secure.optimizer.executed_steps == spent + 5


def test_a_limit_that_ends_within_a_later_fit_is_announced():
    secure = private(noise_multiplier=4.0)
    fit(secure, callbacks=[PrivacyBudget(0.8, 1e-3)])
    with pytest.warns(PrivacyWarning, match="learnt nothing from the data"):
        fit(secure, epochs=30)
    assert secure.optimizer.epsilon(1e-3) <= 0.8
