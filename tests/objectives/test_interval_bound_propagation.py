"""Interval training: its loss by a plain NumPy loop, its schedules, its refusals."""

import keras
import numpy as np
import pytest
from harness_objectives import loss_from_logits, run_objective_harness, small_model

import keras_secure as ks
from keras_secure.errors import InputError, PrivacyError
from keras_secure.objectives import IntervalBoundPropagation, Mixup, PerExampleLoss


@pytest.mark.parametrize("thorough", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_behaviour(thorough):
    run_objective_harness(lambda: IntervalBoundPropagation(0.05), private=False, thorough=thorough)


def batch():
    rng = np.random.default_rng(0)
    return rng.uniform(size=(6, 5)).astype("float32"), rng.integers(0, 3, 6)


def worst_logits(model, x, y, epsilon):
    """Of a Dense/ReLU/Dense net, one example and one class at a time."""
    (w1, b1), (w2, b2) = (map(np.float64, layer.get_weights()) for layer in model.layers)
    rows = []
    for example, label in zip(np.float64(x), y, strict=True):
        low, high = np.maximum(example - epsilon, 0), np.minimum(example + epsilon, 1)
        hidden_low, hidden_high = [], []
        for unit in range(w1.shape[1]):
            ends = np.sort([low * w1[:, unit], high * w1[:, unit]], axis=0).sum(axis=1) + b1[unit]
            hidden_low.append(max(ends[0], 0))
            hidden_high.append(max(ends[1], 0))
        row = []
        for k in range(w2.shape[1]):
            apart = w2[:, k] - w2[:, label]
            ends = [np.array(hidden_low) * apart, np.array(hidden_high) * apart]
            row.append(np.max(ends, axis=0).sum() + b2[k] - b2[label])
        rows.append(row)
    return np.array(rows)


def cross_entropy(logits, y):
    logits = np.asarray(logits, "float64")
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]


@pytest.mark.parametrize("scale", [None, 0.0, 0.25, 1.0])
def test_by_hand_and_along_the_curriculum(scale):
    x, y = batch()
    model, loss = small_model(), PerExampleLoss(loss_from_logits())
    objective = IntervalBoundPropagation(0.2, kappa=0.3)
    if scale is not None:
        objective.scale_epsilon()[0].assign(scale)
    share = 1.0 if scale is None else scale
    losses, outputs = objective(model, x, y, None, loss)
    clean = cross_entropy(model(x), y)
    worst = cross_entropy(worst_logits(model, x, y, 0.2 * share), y)
    assert (worst >= clean - 1e-6).all()
    kappa = 1 - share * 0.7
    np.testing.assert_allclose(losses, kappa * clean + (1 - kappa) * worst, rtol=1e-5)
    np.testing.assert_allclose(outputs, model(x), rtol=1e-6)


def test_probabilities_and_one_hot_labels_give_the_same_loss():
    x, y = batch()
    model = small_model()
    softmax = keras.Sequential([*model.layers, keras.layers.Softmax()])
    objective = IntervalBoundPropagation(0.1)
    expected, _ = objective(model, x, y, None, PerExampleLoss(loss_from_logits()))
    loss = PerExampleLoss(keras.losses.CategoricalCrossentropy())
    found, _ = objective(softmax, x, np.eye(3, dtype="float32")[y], None, loss)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_two_classes_by_one_unit():
    x, y = batch()
    y = (y > 0).astype("int32")
    model = keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)]
    )
    pair = keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(2)]
    )
    *hidden, kernel, bias = model.get_weights()
    pair.set_weights([*hidden, np.concatenate([0 * kernel, kernel], 1), np.append(0 * bias, bias)])
    objective = IntervalBoundPropagation(0.1, kappa=0.0)
    binary = PerExampleLoss(keras.losses.BinaryCrossentropy(from_logits=True))
    expected, _ = objective(pair, x, y, None, PerExampleLoss(loss_from_logits()))
    for targets in (y, y[:, None].astype("float32")):
        found, _ = objective(model, x, targets, None, binary)
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_both_labels_of_a_mixture_count():
    x, y = batch()
    model, loss = small_model(), PerExampleLoss(loss_from_logits())
    objective = Mixup(IntervalBoundPropagation(0.1, kappa=0.0), alpha=1.0, seed=2)
    perturbed = objective.perturb(model, x, y, loss)
    inputs, partners, share = (np.asarray(part) for part in perturbed[:3])
    losses, _ = objective(model, x, y, perturbed, loss)
    first, second = (
        cross_entropy(worst_logits(model, inputs, labels, 0.1), labels)
        for labels in (y, y[partners])
    )
    np.testing.assert_allclose(losses, share * first + (1 - share) * second, rtol=1e-4)


def test_the_callback_drives_radius_and_share():
    x, y = batch()
    objective = IntervalBoundPropagation(0.1)
    secure = ks.SecureModel(small_model(), objective=objective)
    secure.compile("sgd", loss=loss_from_logits())
    growing = ks.callbacks.EpsilonCurriculum(epochs=2)
    history = secure.fit(x, y, batch_size=3, epochs=3, verbose=0, callbacks=[growing]).history
    assert history["epsilon_scale"][0] < history["epsilon_scale"][-1] == 1.0


def test_private_training_is_refused_however_little_the_bounds_count():
    x, y = batch()
    objective = IntervalBoundPropagation(0.1, kappa=1.0 - 1e-6)
    secure = ks.SecureModel(small_model(), objective=objective)
    optimizer = ks.optimizers.DPSGD(0.1, l2_norm_clip=1.0, noise_multiplier=1.0, seed=0)
    secure.compile(optimizer, loss=loss_from_logits())
    with pytest.raises(PrivacyError, match="reads weights beside the layers"):
        secure.fit(x, y, batch_size=3, verbose=0)


def test_refusals():
    x, y = batch()
    with pytest.raises(InputError, match="epsilon="):
        IntervalBoundPropagation(-0.1)
    with pytest.raises(InputError, match="kappa="):
        IntervalBoundPropagation(0.1, kappa=1.5)
    with pytest.raises(InputError, match="bounds="):
        IntervalBoundPropagation(0.1, bounds=(1.0, 0.0))
    deep = keras.Sequential(
        [keras.Input((5,)), keras.layers.LayerNormalization(name="norm"), keras.layers.Dense(3)]
    )
    secure = ks.SecureModel(deep, objective=IntervalBoundPropagation(0.1))
    secure.compile("sgd", loss=loss_from_logits())
    with pytest.raises(InputError, match=r"'norm' \(LayerNormalization\)"):
        secure.fit(x, y, verbose=0)
    inputs = keras.Input((5,))
    two = keras.Model(inputs, [keras.layers.Dense(3)(inputs), keras.layers.Dense(3)(inputs)])
    with pytest.raises(InputError, match="needs one output"):
        IntervalBoundPropagation(0.1)(two, x, [y, y], None, PerExampleLoss(loss_from_logits()))
