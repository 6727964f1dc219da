"""Virtual adversarial training: its direction against an exact Hessian, and missing labels."""

import keras
import numpy as np
import pytest
from harness_objectives import loss_from_logits, run_objective_harness, small_model

import keras_secure as ks
from keras_secure.errors import InputError
from keras_secure.objectives import PerExampleLoss, VirtualAdversarialTraining


@pytest.mark.parametrize("thorough", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_behaviour(thorough):
    # Draws of XLA's own lead one power iteration elsewhere; more of them agree.
    run_objective_harness(
        lambda: VirtualAdversarialTraining(epsilon=0.3, steps=4, seed=5), thorough=thorough
    )


def tanh_model():
    return keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(3)]
    )


def probabilities(model, x):
    """The model in float64, and its Jacobian by the input, for one example."""
    (w1, b1), (w2, b2) = (map(np.float64, layer.get_weights()) for layer in model.layers)
    hidden = np.tanh(x @ w1 + b1)
    logits = hidden @ w2 + b2
    p = np.exp(logits - logits.max())
    return p / p.sum(), (w1 * (1 - hidden**2)) @ w2  # (inputs, classes)


def test_the_direction_is_the_dominant_eigenvector():
    """At r = 0 the divergence's Hessian is the Fisher matrix J (diag p - p p') J'."""
    x = np.random.default_rng(0).uniform(size=(6, 5)).astype("float32")
    model = tanh_model()
    objective = VirtualAdversarialTraining(epsilon=0.5, steps=60, xi=1e-2, seed=1)
    moved = np.asarray(objective.perturb(model, x, None, PerExampleLoss(loss_from_logits())))
    for example, r in zip(np.float64(x), np.float64(moved) - x, strict=True):
        assert np.linalg.norm(r) == pytest.approx(0.5, rel=1e-5)
        p, jacobian = probabilities(model, example)
        hessian = jacobian @ (np.diag(p) - np.outer(p, p)) @ jacobian.T
        values, vectors = np.linalg.eigh(hessian)
        assert abs(vectors[:, -1] @ r) / 0.5 > 0.99
        # The quadratic form is what it should be, however close the eigenvalues are.
        assert r @ hessian @ r / 0.25 > 0.99 * values[-1]


def test_one_power_iteration_beats_random_directions():
    x = np.random.default_rng(0).uniform(size=(64, 5)).astype("float32")
    model, loss = tanh_model(), PerExampleLoss(loss_from_logits())
    y = np.zeros(64, "int32")
    penalties = {}
    for name, xi in (("found", 1e-2), ("random", 1e30)):  # so long a step sees a flat function
        objective = VirtualAdversarialTraining(epsilon=0.5, xi=xi, seed=2)
        losses, _ = objective(model, x, y, objective.perturb(model, x, y, loss), loss)
        penalties[name] = float(np.sum(losses))
    assert penalties["found"] > penalties["random"]


def by_hand(model, x, moved):
    p, q = (np.array([probabilities(model, row)[0] for row in np.float64(v)]) for v in (x, moved))
    return np.sum(p * np.log(p / q), axis=1), p


@pytest.mark.parametrize("one_hot", [False, True])
def test_unlabelled_examples_count_by_their_smoothness_only(one_hot):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(6, 5)).astype("float32"), rng.integers(0, 3, 6)
    model, objective = tanh_model(), VirtualAdversarialTraining(epsilon=0.5, alpha=2.0, seed=1)
    kind = keras.losses.CategoricalCrossentropy if one_hot else None
    loss = PerExampleLoss(kind(from_logits=True) if one_hot else loss_from_logits())
    missing = np.array([True, False, False, True, False, True])
    labels = np.where(missing, -1, y)
    targets = np.eye(3, dtype="float32")[y] * ~missing[:, None] if one_hot else labels
    moved = objective.perturb(model, x, targets, loss)
    losses, _ = objective(model, x, targets, moved, loss)
    divergence, p = by_hand(model, x, np.asarray(moved))
    assert (divergence > 0).all()
    expected = 2.0 * divergence - np.where(missing, 0.0, np.log(p[np.arange(6), y]))
    np.testing.assert_allclose(losses, expected, rtol=1e-3, atol=1e-5)


def test_the_clean_prediction_is_held_constant():
    import tensorflow as tf

    x = np.random.default_rng(0).uniform(size=(4, 5)).astype("float32")
    model, loss = tanh_model(), PerExampleLoss(loss_from_logits())
    objective = VirtualAdversarialTraining(epsilon=0.5, seed=1)
    y = np.full(4, -1)
    moved = objective.perturb(model, x, y, loss)
    bias = model.layers[-1].bias
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(objective(model, x, y, moved, loss)[0])
    # By the logits of the moved input alone, KL(p || q) has the gradient q - p.
    p, q = (np.array([probabilities(model, r)[0] for r in np.float64(v)]) for v in (x, moved))
    np.testing.assert_allclose(tape.gradient(total, bias.value), (q - p).sum(axis=0), atol=1e-5)


def test_a_flat_model_is_left_at_a_random_direction():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, kernel_initializer="zeros")])
    objective = VirtualAdversarialTraining(epsilon=0.5, seed=1)
    moved = objective.perturb(model, np.zeros((2, 5), "float32"), None, PerExampleLoss("mse"))
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 0.5, rtol=1e-5)


@pytest.mark.slow
def test_unlabelled_points_help():
    """Two moons with four labels each, and with the rest unlabelled (figure 2 of the paper)."""
    from sklearn.datasets import make_moons

    x, y = make_moons(1000, noise=0.1, random_state=0)
    x = x.astype("float32")
    given = np.concatenate([np.flatnonzero(y == k)[:4] for k in (0, 1)])
    few = np.full(400, -1, "int32")
    few[given] = y[given]
    accuracy = {}
    for alpha in (0.0, 0.2):
        keras.utils.set_random_seed(3)
        hidden = [keras.layers.Dense(64, "relu") for _ in range(2)]
        model = keras.Sequential([keras.Input((2,)), *hidden, keras.layers.Dense(2)])
        secure = ks.SecureModel(
            model, objective=VirtualAdversarialTraining(epsilon=0.3, alpha=alpha, seed=0)
        )
        secure.compile(keras.optimizers.Adam(0.005), loss=loss_from_logits())
        many_x, many_y = np.tile(x[:400], (50, 1)), np.tile(few, 50)
        secure.fit(many_x, many_y, batch_size=400, epochs=4, shuffle=False, verbose=0)
        answers = np.argmax(model.predict(x[400:], batch_size=600, verbose=0), axis=1)
        accuracy[alpha] = float((answers == y[400:]).mean())
    assert accuracy[0.2] > accuracy[0.0] + 0.05, accuracy
    assert accuracy[0.2] > 0.97


def test_refusals():
    for wrong in ({"epsilon": -1}, {"epsilon": 1, "alpha": -1}, {"epsilon": 1, "steps": 0}):
        with pytest.raises(InputError, match=list(wrong)[-1]):
            VirtualAdversarialTraining(**wrong)
    with pytest.raises(InputError, match="xi="):
        VirtualAdversarialTraining(1.0, xi=0.0)
    with pytest.raises(InputError, match="seed="):
        VirtualAdversarialTraining(1.0, seed=-1)
    with pytest.raises(InputError, match="moves inputs by small real steps"):
        VirtualAdversarialTraining(1.0).perturb(
            small_model(), np.zeros((2, 5), "int32"), None, PerExampleLoss("mse")
        )
