"""Logits and labels, however the model and the user hold them."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_secure.attacks import FGSM, classification_logits
from keras_secure.attacks.labels import class_indices
from keras_secure.attacks.log_odds import log_odds_against, predicts
from keras_secure.errors import InputError
from keras_secure.logits import outputs_are_logits

X = np.array([[1.0, 2.0, -1.0], [0.0, 0.5, 3.0]], "float32")


def passing(*layers):
    """A model of its input's logits, so that the right answer is the input."""
    return keras.Sequential([keras.Input((3,)), *layers])


class Opaque(keras.Model):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


def probabilities(x):
    """Softmax that Keras does not recognize as one."""
    exponentials = ops.exp(x)
    return exponentials / ops.sum(exponentials, axis=-1, keepdims=True)


def same_up_to_a_constant(logits, expected):
    difference = np.asarray(logits) - expected
    np.testing.assert_allclose(difference - difference[:, :1], 0, atol=1e-5)


def test_saturated_softmax_gives_its_true_logits():
    x = np.array([[500.0, 0.0, -500.0]], "float32")
    for model in (
        passing(keras.layers.Activation("softmax")),
        passing(keras.layers.Softmax()),
        keras.Sequential([keras.Input((3,)), passing(keras.layers.Activation("softmax"))]),
        Opaque(keras.activations.softmax),
        Opaque(passing(keras.layers.Activation("softmax"))),
    ):
        np.testing.assert_array_equal(classification_logits(model, x), x)
        np.testing.assert_array_equal(classification_logits(model, x, from_logits=False), x)


def test_explicit_from_logits_comes_first():
    model = Opaque(lambda x: x + 0.0)
    model.compile(loss=keras.losses.CategoricalCrossentropy(from_logits=False))
    np.testing.assert_array_equal(classification_logits(model, X, from_logits=True), X)
    softmax = passing(keras.layers.Activation("softmax"))
    np.testing.assert_allclose(classification_logits(softmax, X, from_logits=True), softmax(X))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("categorical_crossentropy", False),
        ("SparseCategoricalCrossentropy", False),
        (keras.losses.sparse_categorical_crossentropy, False),
        (keras.losses.CategoricalCrossentropy(from_logits=True), True),
        ([keras.losses.BinaryCrossentropy(from_logits=True)], True),
        ({"out": keras.losses.CategoricalFocalCrossentropy()}, False),
    ],
)
def test_compiled_loss_is_read(loss, expected):
    model = Opaque(probabilities)
    model.compile(loss=loss)
    assert outputs_are_logits(model) is expected


def test_compiled_loss_beats_the_last_layer():
    model = passing(keras.layers.Lambda(probabilities), keras.layers.Activation("linear"))
    assert outputs_are_logits(model) is True
    model.compile(loss="categorical_crossentropy")
    same_up_to_a_constant(classification_logits(model, X), X)


def test_last_layer_is_read_through_nested_models():
    inner = passing(keras.layers.Activation("linear"))
    inputs = keras.Input((3,))
    # The layer listed last is not the one that ends the model.
    outputs = inner(keras.layers.Activation("linear")(inputs))
    assert outputs_are_logits(keras.Model(inputs, outputs)) is True
    assert outputs_are_logits(passing(keras.layers.Activation("sigmoid"))) is False
    assert outputs_are_logits(passing(keras.layers.Softmax())) is False


@pytest.mark.parametrize(
    "model",
    [
        Opaque(probabilities),
        passing(keras.layers.Reshape((3,))),
        passing(keras.layers.Activation("relu")),
    ],
    ids=["subclassed", "no activation", "relu"],
)
def test_doubt_asks_for_from_logits(model):
    for loss in (None, "mse", lambda y, p: ops.mean(p)):
        if loss is not None:
            model.compile(loss=loss)
        with pytest.raises(InputError, match="from_logits=True"):
            classification_logits(model, X)
    same_up_to_a_constant(classification_logits(Opaque(probabilities), X, from_logits=False), X)


def test_one_unit_becomes_two_classes():
    z = np.array([[3.0], [-2.0]], "float32")
    expected = [[0.0, 3.0], [0.0, -2.0]]
    flat = Opaque(lambda x: ops.squeeze(x, axis=1))
    plain = Opaque(lambda x: 1 / (1 + ops.exp(-x)))
    np.testing.assert_array_equal(classification_logits(flat, z, from_logits=True), expected)
    np.testing.assert_allclose(
        classification_logits(plain, z, from_logits=False), expected, rtol=1e-5
    )
    saturated = classification_logits(plain, z * 1000, from_logits=False)
    assert np.isfinite(ops.convert_to_numpy(saturated)).all()


def test_mixed_precision_gives_float32():
    keras.config.set_dtype_policy("mixed_float16")
    model = passing(keras.layers.Dense(4, activation="softmax"))
    logits = classification_logits(model, X)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    x_adv = FGSM(0.1, bounds=(-5, 5)).perturb(model, X, [0, 1])
    assert np.abs(ops.convert_to_numpy(x_adv) - X).max() == pytest.approx(0.1, rel=1e-4)


def test_other_outputs_are_refused():
    two = Opaque(lambda x: {"a": x, "b": x})
    with pytest.raises(InputError, match="2 outputs"):
        classification_logits(two, X, from_logits=True)
    segmentation = Opaque(lambda x: ops.reshape(x, (-1, 3, 1)))
    with pytest.raises(InputError, match="num_classes"):
        classification_logits(segmentation, X, from_logits=True)
    one = Opaque(lambda x: {"a": x})
    np.testing.assert_array_equal(classification_logits(one, X, from_logits=True), X)


@pytest.mark.parametrize(
    "y",
    [
        [2, 0],
        np.array([[2], [0]], "int64"),
        np.array([2.0, 0.0]),
        np.array([2, 0], "uint8"),
        [[0, 0, 1], [1, 0, 0]],
        np.array([[0.1, 0.1, 0.8], [0.9, 0.1, 0.0]]),
    ],
)
def test_labels_of_every_kind(y):
    np.testing.assert_array_equal(class_indices(y), [2, 0])


def test_labels_of_no_kind():
    for y in (np.zeros((2, 3, 3)), np.int32(1)):
        with pytest.raises(InputError, match="one-hot"):
            class_indices(y)


def test_log_odds_point_where_cross_entropy_points():
    from keras_secure.attacks.input_gradient import input_gradient_of_sum

    logits = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(5, 4)).astype("float32"))
    labels = ops.convert_to_tensor(np.array([0, 1, 2, 3, 0], "int32"))

    def cross_entropy(z):
        return keras.losses.sparse_categorical_crossentropy(labels, z, from_logits=True)

    entropy, by_entropy = input_gradient_of_sum(cross_entropy, logits)
    odds, by_odds = input_gradient_of_sum(lambda z: log_odds_against(z, labels), logits)
    other = 1 - np.exp(-np.asarray(entropy))
    np.testing.assert_allclose(odds, np.log(other / (1 - other)), rtol=1e-4)
    np.testing.assert_allclose(by_entropy, other[:, None] * np.asarray(by_odds), atol=1e-6)


def test_confidence_does_not_hide_the_gradient():
    # Logits scaled up leave every decision as it is, and cross-entropy without a gradient.
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, use_bias=False)])
    model.set_weights([np.eye(3, dtype="float32") * 1e4])
    x = np.array([[0.6, 0.5, 0.1]], "float32")
    assert FGSM(0.06).run(model, x, [0], verbose=0).success.all()
    assert not FGSM(0.04).run(model, x, [0], verbose=0).success.any()


def test_masked_classes_and_nan():
    logits = ops.convert_to_tensor([[1.0, 0.0, -np.inf], [1.0, np.nan, 0.0]])
    labels = ops.convert_to_tensor(np.array([0, 0], "int32"))
    assert ops.convert_to_numpy(log_odds_against(logits, labels))[0] == pytest.approx(-1)
    np.testing.assert_array_equal(predicts(logits, labels), [True, False])
