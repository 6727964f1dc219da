import keras
import numpy as np
import pytest

from keras_secure.errors import InputError
from keras_secure.leakage import logit_confidences, membership_losses
from keras_secure.leakage.confidences import log_odds, losses_of


def classifier(activation, loss):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, activation=activation)])
    model.compile(loss=loss)
    return model


@pytest.mark.parametrize("from_logits", [True, False])
def test_agrees_with_keras_over_uneven_batches(from_logits):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits, reduction=None)
    model = classifier(None if from_logits else "softmax", loss)
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(23, 6)).astype("float32"), generator.integers(0, 4, 23)
    measured = membership_losses(model, x, y, batch_size=10)
    expected = keras.ops.convert_to_numpy(loss(y, model(x)))
    assert measured.shape == (23,)
    np.testing.assert_allclose(measured, expected, rtol=1e-5)
    one_hot = keras.utils.to_categorical(y, 4)
    np.testing.assert_array_equal(measured, membership_losses(model, x, one_hot, batch_size=10))
    np.testing.assert_array_equal(measured, membership_losses(model, x, y[:, None], batch_size=10))


def test_dropout_is_off():
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dropout(0.9), keras.layers.Dense(4, activation="softmax")]
    )
    x, y = np.ones((5, 6), "float32"), np.zeros(5, int)
    assert len(set(membership_losses(model, x, y).round(6))) == 1


def test_a_saturated_softmax_does_not_tie_the_losses():
    model = classifier("softmax", "sparse_categorical_crossentropy")
    model.set_weights([np.eye(6, 4, dtype="float32"), np.zeros(4, "float32")])
    x = np.pad(np.diag([30.0, 60.0, 120.0, 240.0]), ((0, 0), (0, 2))).astype("float32")
    losses = membership_losses(model, x, np.arange(4))
    assert np.all(np.diff(losses) < 0)


def test_single_unit_is_two_classes():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, activation="sigmoid")])
    model.set_weights([np.ones((1, 1)), np.zeros(1)])
    measured = membership_losses(model, np.array([[2.0], [2.0]], "float32"), np.array([1, 0]))
    np.testing.assert_allclose(measured, [np.log1p(np.exp(-2)), np.log1p(np.exp(2))], rtol=1e-6)


def test_log_odds_and_losses_are_stable_at_both_ends():
    logits = np.array([[800.0, 0.0, -1e4], [0.0, 800.0, -1e4], [-40.0, 0.0, -1e4]])
    sure = log_odds(logits, np.array([0, 0, 1]))
    np.testing.assert_allclose(sure, [800.0, -800.0, 40.0], rtol=1e-12)
    np.testing.assert_allclose(losses_of(sure), [0.0, 800.0, np.exp(-40.0)], rtol=1e-12)


def test_log_odds_are_those_of_the_probability():
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(50, 7)), generator.integers(0, 7, 50)
    odds = np.exp(logits)
    p = odds[np.arange(50), labels] / odds.sum(axis=1)
    np.testing.assert_allclose(log_odds(logits, labels), np.log(p / (1 - p)), rtol=1e-12)
    np.testing.assert_allclose(losses_of(log_odds(logits, labels)), -np.log(p), rtol=1e-12)


def test_several_inputs_are_scored_together():
    inputs = [keras.Input((2,), name="a"), keras.Input((2,), name="b")]
    model = keras.Model(inputs, keras.layers.Add()(inputs))
    a, b = np.eye(2, dtype="float32"), np.full((2, 2), 3.0, "float32")
    sure = logit_confidences(model, [a, b], np.zeros(2, int), from_logits=True)
    np.testing.assert_allclose(sure, [1.0, -1.0])


def test_refusals():
    model = classifier("softmax", "sparse_categorical_crossentropy")
    x = np.zeros((3, 6), "float32")
    with pytest.raises(InputError, match=r"\[3\] examples and y has 2"):
        membership_losses(model, x, np.zeros(2, int))
    with pytest.raises(InputError, match="0 to 4, but the model has 4 classes"):
        membership_losses(model, x, np.array([0, 1, 4]))
    with pytest.raises(InputError, match="from -1"):
        membership_losses(model, x, np.array([0, 1, -1]))
