"""Mixup and augmentation: distribution, losses by hand, composition, and refusal under privacy."""

import keras
import numpy as np
import pytest
from harness_objectives import loss_from_logits, run_objective_harness, small_model
from keras import ops

import keras_secure as ks
from keras_secure import backend
from keras_secure.attacks import PGD
from keras_secure.errors import InputError, PrivacyError
from keras_secure.objectives import (
    MART,
    TRADES,
    AdversarialTraining,
    Augmented,
    Mixup,
    PerExampleLoss,
    Standard,
    VirtualAdversarialTraining,
)
from keras_secure.objectives.mixed_loss import beta_share

ATTACK = {"epsilon": 0.1, "steps": 2, "seed": 5}


def private_optimizer():
    return ks.optimizers.DPSGD(0.1, l2_norm_clip=1.0, noise_multiplier=1.0, seed=0)


def noise():
    return ks.layers.GaussianNoise(0.05, seed=4)


@pytest.mark.parametrize("thorough", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_behaviour_of_mixup(thorough):
    run_objective_harness(
        lambda: Mixup(AdversarialTraining(PGD(**ATTACK)), alpha=0.2, seed=1),
        private=False,
        thorough=thorough,
    )


@pytest.mark.parametrize("thorough", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_behaviour_of_augmentation(thorough):
    run_objective_harness(
        lambda: Augmented(AdversarialTraining(PGD(**ATTACK)), noise()), thorough=thorough
    )


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_follow_the_beta_distribution(alpha):
    from scipy.stats import beta, kstest

    generator = keras.random.SeedGenerator(1)
    share = backend.compiled(lambda: beta_share(alpha, generator))
    drawn = np.array([float(share()) for _ in range(1000)])
    assert kstest(drawn, beta(alpha, alpha).cdf).pvalue > 1e-3
    for wrong in (alpha * 2 / 3, alpha * 3 / 2):
        assert kstest(drawn, beta(wrong, wrong).cdf).pvalue < 1e-2


def test_a_tiny_alpha_mixes_nothing_and_stays_finite():
    generator = keras.random.SeedGenerator(1)
    drawn = np.array([float(beta_share(1e-3, generator)) for _ in range(20)])
    assert np.isfinite(drawn).all()
    assert np.minimum(drawn, 1 - drawn).max() < 0.01


def batch(one_hot=False):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(6, 5)).astype("float32"), rng.integers(0, 3, 6)
    return x, np.eye(3, dtype="float32")[y] if one_hot else y


@pytest.mark.parametrize("one_hot", [False, True])
def test_mixup_by_hand(one_hot):
    x, y = batch(one_hot)
    kind = keras.losses.CategoricalCrossentropy if one_hot else None
    loss = PerExampleLoss(kind(from_logits=True) if one_hot else loss_from_logits())
    model, objective = small_model(), Mixup(alpha=1.0, seed=2)
    weights = np.arange(6, dtype="float32")
    perturbed = objective.perturb(model, x, y, loss)
    inputs, partners, share, _ = perturbed
    share, partners = float(share), np.asarray(partners)
    assert 0.5 <= share < 1
    assert sorted(partners) == list(range(6))
    np.testing.assert_allclose(inputs, share * x + (1 - share) * x[partners], rtol=1e-5)
    losses, outputs = objective(model, x, y, perturbed, loss, weights)
    first, second = (
        loss(y, model(inputs), weights),
        loss(y[partners], model(inputs), weights[partners]),
    )
    np.testing.assert_allclose(losses, share * first + (1 - share) * second, rtol=1e-5)
    np.testing.assert_allclose(outputs, model(inputs), rtol=1e-6)


def test_the_labels_that_an_objective_reads_itself_are_mixed():
    x, y = batch()
    model, loss = small_model(), PerExampleLoss(loss_from_logits())
    objective = Mixup(MART(PGD(**ATTACK), beta=2.0), alpha=1.0, seed=2)
    perturbed = objective.perturb(model, x, y, loss)
    inputs, partners, share, x_adv = perturbed
    share, partners = float(share), np.asarray(partners)
    losses, _ = objective(model, x, y, perturbed, loss)
    first, second = (
        np.asarray(MART(PGD(**ATTACK), beta=2.0)(model, inputs, labels, x_adv, loss)[0])
        for labels in (y, y[partners])
    )
    assert np.abs(first - second).max() > 0.1
    np.testing.assert_allclose(losses, share * first + (1 - share) * second, rtol=1e-4)


def test_mixtures_with_missing_labels():
    x, y = batch()
    y[:3] = -1
    model, loss = small_model(), PerExampleLoss(loss_from_logits())
    objective = Mixup(VirtualAdversarialTraining(1.0, alpha=0.0, seed=1), alpha=1.0, seed=2)
    perturbed = objective.perturb(model, x, y, loss)
    inputs, partners, share, _ = perturbed
    share, partners = float(share), np.asarray(partners)
    losses, _ = objective(model, x, y, perturbed, loss)

    def known(labels):
        values = np.asarray(loss(np.maximum(labels, 0), model(inputs)))
        return np.where(labels < 0, 0.0, values)

    np.testing.assert_allclose(
        losses, share * known(y) + (1 - share) * known(y[partners]), rtol=1e-5
    )


def test_several_inputs_and_outputs():
    a, b = keras.Input((3,)), keras.Input((2,))
    joined = keras.layers.Concatenate()([a, b])
    model = keras.Model(
        {"a": a, "b": b},
        {"one": keras.layers.Dense(2)(joined), "two": keras.layers.Dense(1)(joined)},
    )
    secure = ks.SecureModel(model, objective=Mixup(seed=0))
    secure.compile("sgd", loss={"one": loss_from_logits(), "two": "mse"})
    x = {"a": np.ones((8, 3), "float32"), "b": np.ones((8, 2), "float32")}
    y = {"one": np.zeros(8, "int32"), "two": np.ones((8, 1), "float32")}
    history = secure.fit(x, y, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("wrapped", [False, True])
def test_mixtures_are_refused_in_private_training(wrapped):
    x, y = batch()
    objective = Augmented(Mixup(), noise()) if wrapped else Mixup(TRADES(PGD(**ATTACK)))
    secure = ks.SecureModel(small_model(), objective=objective)
    secure.compile(private_optimizer(), loss=loss_from_logits())
    with pytest.raises(PrivacyError, match="Mixup puts several examples into one loss"):
        secure.fit(x, y, batch_size=3, verbose=0)


def test_augmentation_acts_before_the_attack_and_in_training_only():
    x, y = batch()
    model, loss = small_model(), PerExampleLoss(loss_from_logits())
    objective = Augmented(AdversarialTraining(PGD(**ATTACK)), noise())
    changed, x_adv = objective.perturb(model, x, y, loss)
    assert 0.01 < np.std(np.asarray(changed) - x) < 0.2
    # The ball is around the changed input, clipped to the range of inputs.
    inside = np.clip(changed, 0, 1)
    assert np.abs(np.asarray(x_adv) - inside).max() <= 0.1 + 1e-6
    losses, outputs = objective(model, x, y, (changed, x_adv), loss)
    np.testing.assert_allclose(losses, loss(y, model(x_adv)), rtol=1e-5)
    np.testing.assert_allclose(outputs, model(x_adv), rtol=1e-5)


def test_images_are_flipped_one_by_one():
    x = np.random.default_rng(0).uniform(size=(16, 4, 4, 1)).astype("float32")
    objective = Augmented(None, keras.layers.RandomFlip("horizontal", seed=1))
    changed, _ = objective.perturb(None, x, None, None)
    flipped = [np.allclose(new, old[:, ::-1]) for new, old in zip(changed, x, strict=True)]
    same = [np.allclose(new, old) for new, old in zip(changed, x, strict=True)]
    assert all(a != b for a, b in zip(flipped, same, strict=True))
    assert 2 < sum(flipped) < 14


def test_an_augmentation_that_mixes_is_refused_in_private_training():
    class BatchMean(keras.layers.Layer):
        def call(self, inputs, training=False):
            return inputs - ops.mean(inputs, axis=0, keepdims=True)

    x, y = batch()
    secure = ks.SecureModel(small_model(), objective=Augmented(Standard(), BatchMean()))
    secure.compile(private_optimizer(), loss=loss_from_logits())
    with pytest.raises(PrivacyError, match="Augmented gives one example another loss"):
        secure.fit(x, y, batch_size=3, verbose=0)


def test_refusals():
    for alpha in (0, -1.0, float("inf")):
        with pytest.raises(InputError, match="alpha="):
            Mixup(alpha=alpha)
    with pytest.raises(InputError, match="mixes examples already"):
        Mixup(Augmented(Mixup(), noise()))
    for wrapper in (Mixup, lambda inner: Augmented(inner, noise())):
        with pytest.raises(InputError, match="objective is a str"):
            wrapper("trades")
    with pytest.raises(InputError, match="layer is a NoneType"):
        Augmented(Standard())
    with pytest.raises(InputError, match="has weights"):
        Augmented(None, keras.layers.Dense(5)).perturb(None, batch()[0], None, None)
    with pytest.raises(InputError, match="int32"):
        Mixup().perturb(None, np.zeros((2, 3), "int32"), None, PerExampleLoss("mse"))
    if hasattr(keras.layers, "MixUp"):
        with pytest.raises(InputError, match=r"objectives\.Mixup"):
            Augmented(None, keras.layers.MixUp())
