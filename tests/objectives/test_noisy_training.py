"""Gaussian augmentation and consistency regularization, for smoothing."""

import keras
import numpy as np
import pytest
from harness_objectives import loss_from_logits, run_objective_harness, small_model

from keras_secure.errors import InputError
from keras_secure.objectives import Consistency, GaussianAugmentation, PerExampleLoss

OBJECTIVES = {
    "gaussian": lambda: GaussianAugmentation(0.1, seed=3),
    "consistency": lambda: Consistency(0.1, num_copies=3, weight=2.0, seed=3),
}


@pytest.mark.parametrize(
    ("name", "thorough"),
    [("consistency", False), *(pytest.param(n, True, marks=pytest.mark.slow) for n in OBJECTIVES)],
)
def test_behaviour(name, thorough):
    run_objective_harness(OBJECTIVES[name], thorough=thorough)


def test_noise_has_the_scale_that_was_asked_for():
    from scipy.stats import kstest

    objective = GaussianAugmentation(0.25, seed=1)
    loss = PerExampleLoss(loss_from_logits())
    x = np.full((64, 50), 0.5, "float32")
    noise = (np.asarray(objective.perturb(None, x, None, loss)) - x).ravel()
    assert kstest(noise / 0.25, "norm").pvalue > 1e-3
    for wrong in (2 / 3, 3 / 2):
        assert kstest(noise / (0.25 * wrong), "norm").pvalue < 1e-6
    again = (np.asarray(objective.perturb(None, x, None, loss)) - x).ravel()
    assert abs(np.corrcoef(noise, again)[0, 1]) < 0.1  # drawn anew in each step


def test_augmentation_by_hand():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(6, 5)).astype("float32"), rng.integers(0, 3, 6)
    model, loss = small_model(), PerExampleLoss(loss_from_logits())
    objective = GaussianAugmentation(0.1, seed=3)
    noisy = objective.perturb(model, x, y, loss)
    losses, outputs = objective(model, x, y, noisy, loss)
    np.testing.assert_allclose(losses, loss(y, model(noisy)), rtol=1e-6)
    np.testing.assert_allclose(outputs, model(noisy), rtol=1e-6)


def test_several_inputs_and_outputs():
    a, b = keras.Input((3,)), keras.Input((2,))
    joined = keras.layers.Concatenate()([a, b])
    outputs = {"one": keras.layers.Dense(2)(joined), "two": keras.layers.Dense(1)(joined)}
    model = keras.Model([a, b], outputs)
    loss = PerExampleLoss({"one": loss_from_logits(), "two": "mse"})
    x = [np.ones((4, 3), "float32"), np.ones((4, 2), "float32")]
    y = {"one": np.zeros(4, "int32"), "two": np.zeros((4, 1), "float32")}
    objective = GaussianAugmentation(0.1, seed=0)
    noisy = objective.perturb(model, x, y, loss)
    assert [tuple(part.shape) for part in noisy] == [(4, 3), (4, 2)]
    losses, _ = objective(model, x, y, noisy, loss)
    assert tuple(losses.shape) == (4,)
    consistent = Consistency(0.1)
    copies = consistent.perturb(model, x, y, loss)
    with pytest.raises(InputError, match="2 outputs"):
        consistent(model, x, y, copies, loss)


@pytest.mark.parametrize("weight", [None, 2.0])
def test_consistency_by_hand(weight):
    """L_nat over the copies, lambda times the mean KL to the mean, eta times its entropy."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(6, 5)).astype("float32"), rng.integers(0, 3, 6)
    model, loss = small_model(), PerExampleLoss(loss_from_logits())
    objective = Consistency(0.5, num_copies=3, weight=4.0, entropy_weight=0.7, seed=3)
    copies = objective.perturb(model, x, y, loss)
    weights = None if weight is None else np.full(6, weight, "float32")
    losses, _ = objective(model, x, y, copies, loss, weights)
    f = np.stack([keras.ops.softmax(model(copy)) for copy in copies]).astype("float64")
    expected = []
    for example, label in enumerate(y):
        rows = f[:, example]
        mean = rows.mean(axis=0)
        natural = np.mean([-np.log(row[label]) for row in rows])
        apart = np.mean([np.sum(mean * np.log(mean / row)) for row in rows])
        entropy = -np.sum(mean * np.log(mean))
        expected.append((weight or 1.0) * (natural + 4.0 * apart + 0.7 * entropy))
        assert apart > 1e-4
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


def test_refusals():
    for stddev in (-0.1, float("inf"), "1"):
        with pytest.raises(InputError, match="stddev="):
            GaussianAugmentation(stddev)
    with pytest.raises(InputError, match=r"num_copies=1.*GaussianAugmentation"):
        Consistency(0.1, num_copies=1)
    with pytest.raises(InputError, match="entropy_weight="):
        Consistency(0.1, entropy_weight=-1)
    with pytest.raises(InputError, match=r"int32.*floating point"):
        GaussianAugmentation(0.1).noisy(np.zeros((1, 2), "int32"))
