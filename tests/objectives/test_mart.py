"""MART against the formula of its paper, written out in NumPy."""

import keras
import numpy as np
import pytest
from harness_objectives import loss_from_logits, run_objective_harness, small_model
from keras import ops

from keras_secure import backend
from keras_secure.attacks import PGD
from keras_secure.errors import InputError
from keras_secure.objectives import MART, PerExampleLoss
from keras_secure.objectives.mart import boosted_cross_entropy

ATTACK = {"epsilon": 0.1, "steps": 3, "seed": 5}


def softmax(logits):
    logits = np.asarray(logits, "float64")
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def mart_by_hand(clean, attacked, y, beta):
    """Boosted cross-entropy and weighted KL of the paper, one example at a time."""
    losses = []
    for p, q, label in zip(softmax(clean), softmax(attacked), y, strict=True):
        rival = max(q[k] for k in range(len(q)) if k != label)
        boosted = -np.log(q[label]) - np.log(1 - rival)
        unstable = sum(p[k] * np.log(p[k] / q[k]) for k in range(len(q)))
        losses.append(boosted + beta * unstable * (1 - p[label]))
    return np.array(losses)


@pytest.mark.parametrize("thorough", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_behaviour(thorough):
    run_objective_harness(lambda: MART(PGD(**ATTACK), beta=3.0), thorough=thorough)


@pytest.mark.parametrize("one_hot", [False, True])
def test_by_hand(one_hot):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(6, 5)).astype("float32"), rng.integers(0, 3, 6)
    loss = loss_from_logits()
    if one_hot:
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model, loss, objective = small_model(), PerExampleLoss(loss), MART(PGD(**ATTACK), beta=2.5)
    targets = np.eye(3, dtype="float32")[y] if one_hot else y
    perturbed = objective.perturb(model, x, targets, loss)
    assert np.abs(np.asarray(perturbed) - x).max() == pytest.approx(0.1, rel=1e-3)
    losses, outputs = objective(model, x, targets, perturbed, loss)
    np.testing.assert_allclose(losses, mart_by_hand(model(x), model(perturbed), y, 2.5), rtol=1e-5)
    np.testing.assert_allclose(outputs, model(x), rtol=1e-6)
    weights = np.arange(6, dtype="float32")[:, None]
    weighted, _ = objective(model, x, targets, perturbed, loss, weights)
    np.testing.assert_allclose(weighted, np.arange(6) * np.asarray(losses), rtol=1e-5)


def test_a_saturated_model_keeps_a_gradient():
    """Written with probabilities, both logarithms would be of zero here."""
    logits = ops.convert_to_tensor(np.array([[-300.0, 300.0, 0.0]], "float32"))
    labels = ops.convert_to_tensor(np.array([0]))
    value, gradient = backend.input_gradient(
        lambda values: ops.sum(boosted_cross_entropy(values, labels)), logits
    )
    assert float(value) == pytest.approx(600 + 300)
    np.testing.assert_allclose(gradient, [[-1.0, 2.0, -1.0]], atol=1e-6)


def test_two_classes_by_one_unit():
    """The best other class is the only other one: both halves are cross-entropy."""
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1, activation="sigmoid")])
    x, y = np.random.default_rng(0).uniform(size=(4, 5)).astype("float32"), np.array([0, 1, 1, 0])
    loss, objective = PerExampleLoss("binary_crossentropy"), MART(PGD(**ATTACK), beta=0.0)
    perturbed = objective.perturb(model, x, y, loss)
    losses, _ = objective(model, x, y, perturbed, loss)
    q = np.asarray(model(perturbed), "float64")[:, 0]
    expected = -2 * np.log(np.where(y == 1, q, 1 - q))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_refusals():
    for beta in (-1.0, float("nan"), "6"):
        with pytest.raises(InputError, match="beta="):
            MART(PGD(0.1), beta=beta)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    two = keras.Model(model.inputs[0], {"a": model.outputs[0], "b": model.outputs[0]})
    with pytest.raises(InputError, match="2 outputs"):
        MART(PGD(0.1))(two, ops.zeros((1, 2)), [0], ops.zeros((1, 2)), PerExampleLoss("mse"))
