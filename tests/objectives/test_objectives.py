"""Objectives: their losses by hand, their behaviour in any step, and their refusals."""

import keras
import numpy as np
import pytest
from harness_objectives import loss_from_logits, run_objective_harness, small_model
from keras import ops

import keras_secure as ks
from keras_secure.attacks import FGSM, PGD
from keras_secure.errors import InputError
from keras_secure.objectives import (
    TRADES,
    AdversarialTraining,
    Objective,
    PerExampleLoss,
    Standard,
)

ATTACK = {"epsilon": 0.1, "steps": 3, "seed": 5}
OBJECTIVES = {
    "standard": Standard,
    "adversarial": lambda: AdversarialTraining(PGD(**ATTACK)),
    "adversarial_mixed": lambda: AdversarialTraining(FGSM(0.1), clean_share=0.4),
    "trades": lambda: TRADES(PGD(**ATTACK), beta=3.0),
}


# TRADES has all that any of them has: an attack, and passes over clean and attacked examples.
@pytest.mark.parametrize(
    ("name", "thorough"),
    [("trades", True)]
    + [(name, False) for name in OBJECTIVES if name != "trades"]
    + [pytest.param(name, True, marks=pytest.mark.slow) for name in OBJECTIVES if name != "trades"],
)
def test_behaviour(name, thorough):
    run_objective_harness(OBJECTIVES[name], thorough=thorough)


def batch():
    rng = np.random.default_rng(0)
    return rng.uniform(size=(6, 5)).astype("float32"), rng.integers(0, 3, 6)


def log_softmax(logits):
    logits = np.asarray(logits, "float64")
    return logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))


def cross_entropy(logits, y):
    return -log_softmax(logits)[np.arange(len(y)), y]


def test_adversarial_training_by_hand():
    x, y = batch()
    model, loss = small_model(), PerExampleLoss(loss_from_logits())
    for share in (0.0, 0.3):
        objective = AdversarialTraining(PGD(**ATTACK), clean_share=share)
        perturbed = objective.perturb(model, x, y, loss)
        assert np.abs(np.asarray(perturbed) - x).max() == pytest.approx(0.1, rel=1e-3)
        losses, outputs = objective(model, x, y, perturbed, loss)
        attacked, clean = cross_entropy(model(perturbed), y), cross_entropy(model(x), y)
        assert attacked.mean() > clean.mean()
        np.testing.assert_allclose(losses, share * clean + (1 - share) * attacked, rtol=1e-5)
        np.testing.assert_allclose(outputs, model(x if share else perturbed), rtol=1e-5)


def test_trades_by_hand():
    x, y = batch()
    model, loss = small_model(), PerExampleLoss(loss_from_logits())
    objective = TRADES(PGD(**ATTACK), beta=2.5)
    perturbed = objective.perturb(model, x, y, loss)
    losses, outputs = objective(model, x, y, perturbed, loss)
    clean, attacked = log_softmax(model(x)), log_softmax(model(perturbed))
    divergence = np.sum(np.exp(clean) * (clean - attacked), axis=-1)
    assert (divergence > 0).all()
    np.testing.assert_allclose(losses, cross_entropy(model(x), y) + 2.5 * divergence, rtol=1e-5)
    np.testing.assert_allclose(outputs, model(x), rtol=1e-6)
    # The attack raises the divergence, and does not see the labels.
    unmoved = PGD(0.1, steps=3, step_size=1e-12, seed=5)
    start = TRADES(unmoved).perturb(model, x, y, loss)
    before = log_softmax(model(start))
    assert divergence.sum() > np.sum(np.exp(clean) * (clean - before))
    again = TRADES(PGD(**ATTACK)).perturb(model, x, (y + 1) % 3, loss)
    np.testing.assert_allclose(again, perturbed, atol=1e-6)


def test_trades_of_probabilities_is_that_of_logits():
    x, y = batch()
    logits = small_model()
    softmax = keras.Sequential([*logits.layers, keras.layers.Softmax()])
    results = []
    for model, loss in (
        (logits, loss_from_logits()),
        (softmax, keras.losses.SparseCategoricalCrossentropy()),
    ):
        loss = PerExampleLoss(loss)
        objective = TRADES(PGD(**ATTACK))
        perturbed = objective.perturb(model, x, y, loss)
        results.append(np.asarray(objective(model, x, y, perturbed, loss)[0]))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-3)


def test_refusals():
    with pytest.raises(InputError, match=r"random start.*random_start=True"):
        TRADES(FGSM(0.1))
    with pytest.raises(InputError, match="without a random start"):
        TRADES(PGD(0.1, random_start=False))
    for beta in (-1.0, float("nan")):
        with pytest.raises(InputError, match="beta is"):
            TRADES(PGD(0.1), beta=beta)
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(InputError, match="clean_share is"):
            AdversarialTraining(PGD(0.1), clean_share=share)


def test_an_objective_is_written_by_one_method():
    class Doubled(Objective):
        def __call__(self, model, x, y, perturbed, loss, sample_weight=None):
            y_pred = model(x, training=True)
            return 2.0 * loss(y, y_pred, sample_weight), y_pred

    x, y = batch()
    model, loss = small_model(), PerExampleLoss(loss_from_logits())
    assert Doubled().perturb(model, x, y, loss) is None
    losses, _ = Doubled()(model, x, y, None, loss)
    np.testing.assert_allclose(losses, 2 * cross_entropy(model(x), y), rtol=1e-5)
    with pytest.raises(NotImplementedError, match="must write `__call__`"):
        Objective()(model, x, y, None, loss)


def test_no_gradient_flows_into_the_attack():
    import tensorflow as tf

    x, y = batch()
    model, loss = small_model(), PerExampleLoss(loss_from_logits())
    objective = AdversarialTraining(PGD(**ATTACK))
    with tf.GradientTape() as tape:
        moved = ops.sum(objective.perturb(model, x, y, loss))
    assert tape.gradient(moved, model.trainable_variables[0].value) is None


@pytest.mark.parametrize("attack", [None, "pgd", ks.attacks.PGD])
def test_what_is_no_attack_is_refused_at_once(attack):
    with pytest.raises(InputError, match="cannot be trained on"):
        ks.objectives.AdversarialTraining(attack)


def test_trades_refuses_an_attack_that_knows_no_start():
    with pytest.raises(InputError, match="AutoAttack without a random start"):
        ks.objectives.TRADES(ks.attacks.AutoAttack(0.1))


def test_mart_says_that_it_trains_one_output():
    inputs = keras.Input((3,))
    outputs = {name: keras.layers.Dense(2, name=name)(inputs) for name in ("digit", "parity")}
    objective = ks.objectives.MART(ks.attacks.PGD(0.1, steps=1))
    secure = ks.SecureModel(keras.Model(inputs, outputs), objective=objective)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    secure.compile("sgd", {"digit": loss, "parity": loss})
    labels = np.zeros(4, int)
    with pytest.raises(InputError, match=r"2 outputs.*one is"):
        secure.fit(np.ones((4, 3), "float32"), {"digit": labels, "parity": labels}, verbose=0)
