"""The compiled loss by example: its mean is what Keras computes for the batch."""

import keras
import numpy as np
import pytest
from keras import losses, ops

from keras_secure.errors import InputError
from keras_secure.objectives import PerExampleLoss

RNG = np.random.default_rng(0)
ROWS = 6
SCORES = RNG.normal(size=(ROWS, 4)).astype("float32")
PROBABILITIES = np.exp(SCORES) / np.exp(SCORES).sum(-1, keepdims=True)
CLASSES = RNG.integers(0, 4, ROWS)
ONE_HOT = np.eye(4, dtype="float32")[CLASSES]
BINARY = RNG.integers(0, 2, (ROWS, 1)).astype("float32")
LOGIT = RNG.normal(size=(ROWS, 1)).astype("float32")
CASES = {
    "mse": ("mse", SCORES, ONE_HOT),
    "mae": ("mean_absolute_error", SCORES, ONE_HOT),
    "huber": (losses.Huber(0.3), SCORES, ONE_HOT),
    "log_cosh": (losses.log_cosh, SCORES, ONE_HOT),
    "sparse": ("sparse_categorical_crossentropy", PROBABILITIES, CLASSES),
    "sparse_column": ("sparse_categorical_crossentropy", PROBABILITIES, CLASSES[:, None]),
    "sparse_logits": (losses.SparseCategoricalCrossentropy(from_logits=True), SCORES, CLASSES),
    "ignore_class": (
        losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1),
        SCORES,
        CLASSES,
    ),
    "categorical": ("categorical_crossentropy", PROBABILITIES, ONE_HOT),
    "smoothed": (
        losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        SCORES,
        ONE_HOT,
    ),
    "binary": (losses.BinaryCrossentropy(from_logits=True), LOGIT, BINARY),
    "binary_flat_labels": (losses.BinaryCrossentropy(from_logits=True), LOGIT, BINARY[:, 0]),
    "mse_flat_labels": ("mse", LOGIT, BINARY[:, 0]),
    "focal": (losses.BinaryFocalCrossentropy(from_logits=True), LOGIT, BINARY),
    "hinge": ("hinge", LOGIT, 2 * BINARY - 1),
    "cosine": (losses.CosineSimilarity(), SCORES, ONE_HOT),
    "poisson": (losses.Poisson(), np.exp(SCORES), ONE_HOT),
    "sum": (losses.MeanSquaredError(reduction="sum"), SCORES, ONE_HOT),
    "images": ("mse", RNG.normal(size=(ROWS, 3, 4, 2)), RNG.normal(size=(ROWS, 3, 4, 2))),
    "sequence": (
        losses.SparseCategoricalCrossentropy(from_logits=True),
        RNG.normal(size=(ROWS, 5, 4)),
        RNG.integers(0, 4, (ROWS, 5)),
    ),
}


def keras_loss(loss, y, y_pred, weights=None):
    model = keras.Sequential([keras.layers.Identity()])
    model.compile(loss=loss)
    return float(model.compute_loss(y=y, y_pred=y_pred, sample_weight=weights))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("weighted", [False, True])
def test_reduction_is_that_of_keras(name, weighted):
    loss, y_pred, y = CASES[name]
    y_pred, y = ops.convert_to_tensor(y_pred, "float32"), ops.convert_to_tensor(y)
    weights = None
    if weighted:
        # Keras wants an axis for each axis of the values.
        shape = (ROWS,) + (1,) * {"images": 2, "sequence": 1}.get(name, 0)
        weights = ops.convert_to_tensor(RNG.uniform(size=shape), "float32")
    ours = PerExampleLoss(loss)
    values = ours(y, y_pred, weights)
    assert tuple(values.shape) == (ROWS,)
    found = float(ours.reduce(values))
    assert found == pytest.approx(keras_loss(loss, y, y_pred, weights), rel=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_each_loss_is_that_of_the_example_alone(name):
    loss, y_pred, y = CASES[name]
    values = PerExampleLoss(loss)(
        ops.convert_to_tensor(y), ops.convert_to_tensor(y_pred, "float32")
    )
    for index in (0, ROWS - 1):
        alone = keras_loss(
            loss,
            ops.convert_to_tensor(y[index : index + 1]),
            ops.convert_to_tensor(y_pred[index : index + 1], "float32"),
        )
        assert float(values[index]) == pytest.approx(alone, rel=1e-5)


def test_padding_mask_of_predictions_averages_within_the_example():
    outputs = ops.convert_to_tensor(RNG.normal(size=(3, 4, 1)), "float32")
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
    outputs._keras_mask = ops.convert_to_tensor(mask)
    values = PerExampleLoss("mse")(ops.zeros((3, 4, 1)), outputs)
    squares = np.asarray(outputs)[..., 0] ** 2
    expected = [squares[0, :2].mean(), squares[1].mean(), 0.0]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_several_outputs_by_name_and_by_position():
    y = {"a": ops.convert_to_tensor(ONE_HOT), "b": ops.convert_to_tensor(BINARY)}
    outputs = {"b": ops.convert_to_tensor(LOGIT), "a": ops.convert_to_tensor(SCORES)}
    weights = {"a": 0.5, "b": 2.0}
    by_name = PerExampleLoss({"a": "mse", "b": "mae"}, weights)(y, outputs)
    expected = 0.5 * ((SCORES - ONE_HOT) ** 2).mean(-1) + 2 * np.abs(LOGIT - BINARY)[:, 0]
    np.testing.assert_allclose(by_name, expected, rtol=1e-5)
    listed = PerExampleLoss(["mse", "mae"], [0.5, 2.0])
    by_position = listed([y["a"], y["b"]], [outputs["a"], outputs["b"]])
    np.testing.assert_allclose(by_position, expected, rtol=1e-5)
    mixed = PerExampleLoss({"a": "mse", "b": "mae"}, weights, output_names=["a", "b"])
    np.testing.assert_allclose(mixed(y, [outputs["a"], outputs["b"]]), expected, rtol=1e-5)
    partial = PerExampleLoss({"b": "mae"})(y, outputs)
    np.testing.assert_allclose(partial, np.abs(LOGIT - BINARY)[:, 0], rtol=1e-5)
    parts = mixed.by_output(y, [outputs["a"], outputs["b"]])
    assert list(parts) == ["a", "b"]
    np.testing.assert_allclose(parts["b"], np.abs(LOGIT - BINARY)[:, 0], rtol=1e-5)


def test_refusals():
    with pytest.raises(InputError, match=r"No loss was compiled"):
        PerExampleLoss(None)
    with pytest.raises(InputError, match="weights of the other examples"):
        PerExampleLoss(losses.MeanSquaredError(reduction="mean_with_sample_weight"))
    scalar = PerExampleLoss(lambda y, y_pred: ops.mean(ops.square(y - y_pred)))
    with pytest.raises(InputError, match=r"one number for the whole batch.*per example"):
        scalar(ops.zeros((2, 1)), ops.ones((2, 1)))
    named = PerExampleLoss({"a": "mse", "c": "mae"})
    outputs = {"a": ops.ones((2, 1)), "b": ops.ones((2, 1))}
    with pytest.raises(InputError, match=r"output names as keys"):
        named(outputs, outputs)
    with pytest.raises(InputError, match="3 parts, the model 2 outputs"):
        PerExampleLoss(["mse"] * 3)([ops.ones((2, 1))] * 2, [ops.ones((2, 1))] * 2)


def test_from_logits():
    assert PerExampleLoss(losses.BinaryCrossentropy(from_logits=True)).from_logits is True
    assert PerExampleLoss(losses.BinaryCrossentropy()).from_logits is False
    assert PerExampleLoss("mse").from_logits is None
    assert PerExampleLoss(["mse", losses.BinaryCrossentropy()]).from_logits is None
