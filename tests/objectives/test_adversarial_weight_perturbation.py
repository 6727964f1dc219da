"""Adversarial weight perturbation: by hand, exactly undone, in every kind of step."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import keras_secure as ks
from keras_secure.errors import InputError, PrivacyError
from keras_secure.objectives import AdversarialWeightPerturbation as AWP

RNG = np.random.default_rng(0)
X = RNG.uniform(0.0, 1.0, (24, 5)).astype("float32")
Y = RNG.integers(0, 3, 24).astype("int32")
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(**options):
    keras.utils.set_random_seed(4)
    return keras.Sequential(
        [keras.Input((5,)), layers.Dense(7, "relu", **options), layers.Dense(3)]
    )


def adversarial():
    return ks.objectives.AdversarialTraining(ks.attacks.PGD(0.1, steps=2, random_start=False))


def trained(objective, model=None, optimizer=None, **options):
    model = network() if model is None else model
    secure = ks.SecureModel(model, objective=objective)
    secure.compile(optimizer or keras.optimizers.SGD(0.5), LOSS, metrics=["accuracy"], **options)
    history = secure.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0).history
    return model.get_weights(), history


def by_hand(gamma, penalty=0.0):
    """The paper's algorithm by moving the weights, with TensorFlow's tape and nothing else."""
    model = network()
    for start in (0, 8, 16) * 2:
        x, y = X[start : start + 8], Y[start : start + 8]
        x = adversarial().attack.perturb(model, x, y, from_logits=True)
        true = model.get_weights()

        def gradients(penalty, x=x, y=y):
            with tf.GradientTape() as tape:
                value = LOSS(y, model(x, training=True))
                value += penalty * tf.reduce_sum(tf.square(model.layers[0].kernel))
            return tape.gradient(value, [v.value for v in model.trainable_variables])

        for variable, gradient in zip(model.trainable_variables, gradients(0.0), strict=True):
            if len(variable.shape) > 1:
                reach = gamma * np.linalg.norm(variable) / np.linalg.norm(gradient)
                variable.assign_add(reach * gradient)
        there = gradients(penalty)
        model.set_weights([w - 0.5 * np.asarray(g) for w, g in zip(true, there, strict=True)])
    return model.get_weights()


@pytest.mark.parametrize(
    "options", [{}, {"run_eagerly": True}, {"jit_compile": True}], ids=["graph", "eager", "jit"]
)
def test_it_is_the_algorithm_of_the_paper(options):
    found, history = trained(AWP(adversarial(), gamma=0.05), **options)
    for ours, theirs in zip(found, by_hand(0.05), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
    # The move matters: without it other weights are found.
    without = by_hand(0.0)
    assert max(np.abs(a - b).max() for a, b in zip(found, without, strict=True)) > 1e-3
    assert np.isfinite(history["loss"]).all()


def test_weights_are_restored_exactly_and_gamma_zero_is_the_inner_objective():
    still = keras.optimizers.SGD(0.0)
    before = network().get_weights()
    after, _ = trained(AWP(adversarial(), gamma=0.5), optimizer=still)
    for ours, theirs in zip(after, before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    found, _ = trained(AWP(adversarial(), gamma=0.0))
    inner, _ = trained(adversarial())
    for ours, theirs in zip(found, inner, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_penalties_count_for_the_update_and_not_for_the_move():
    model = network(kernel_regularizer=keras.regularizers.L2(0.1))
    found, _ = trained(AWP(adversarial(), gamma=0.05), model)
    for ours, theirs in zip(found, by_hand(0.05, penalty=0.1), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


class Noise(layers.Layer):
    """Adds another number in every call, the same for the whole batch."""

    def __init__(self):
        super().__init__()
        self.generator = keras.random.SeedGenerator(1)
        self.traces = 0

    def call(self, inputs, training=False):
        self.traces += 1
        if not training:
            return inputs
        return inputs + keras.random.normal((1, 1), seed=self.generator)


def test_statistics_move_once_a_step_and_random_numbers_go_on():
    noise = Noise()
    keras.utils.set_random_seed(4)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            noise,
            layers.BatchNormalization(momentum=0.9),
            layers.Dense(7, activity_regularizer="l2"),
            layers.Dense(3),
        ]
    )
    secure = ks.SecureModel(model, objective=AWP(ks.objectives.Standard()))
    secure.compile(keras.optimizers.SGD(0.0), LOSS, jit_compile=False)
    noise.traces = 0
    seeds = [noise.generator.state.numpy()]
    expected = np.zeros(5)
    for _ in range(3):
        before = model.layers[1].moving_mean.numpy()
        secure.train_on_batch(X, Y)
        seeds.append(noise.generator.state.numpy())
        # One update with momentum 0.9 of what is within 0.1 of the batch's mean.
        drawn = (model.layers[1].moving_mean.numpy() - 0.9 * before) / 0.1 - X.mean(axis=0)
        np.testing.assert_allclose(drawn, drawn[0], atol=1e-4)
        assert abs(drawn[0] - expected[0]) > 1e-3
        expected = drawn
    assert len({tuple(seed) for seed in seeds}) == 4
    # The move and the gradient, in one graph.
    assert noise.traces <= 4


@pytest.mark.parametrize("inner", ["trades", "mart", "mixup"])
def test_around_other_objectives(inner):
    pgd = ks.attacks.PGD(0.1, steps=2, seed=0)
    objective = {
        "trades": lambda: ks.objectives.TRADES(pgd),
        "mart": lambda: ks.objectives.MART(pgd),
        "mixup": lambda: ks.objectives.Mixup(adversarial()),
    }[inner]()
    _, history = trained(AWP(objective))
    assert np.isfinite(history["loss"]).all()
    # What callbacks change reaches the objective inside.
    outer = AWP(objective)
    variable, _ = outer.scale_epsilon()
    assert objective.epsilon_scale is variable


def test_half_precision_and_embeddings():
    keras.config.set_dtype_policy("mixed_float16")
    keras.utils.set_random_seed(4)
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(20, 4),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3, dtype="float32"),
        ]
    )
    secure = ks.SecureModel(model, objective=AWP(ks.objectives.Standard(), gamma=0.1))
    secure.compile("sgd", LOSS)
    tokens = RNG.integers(0, 20, (24, 6))
    history = secure.fit(tokens, Y, batch_size=8, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.last = layers.Dense(8, "relu"), layers.Dense(3)

    def call(self, inputs, training=False):
        return self.last(self.hidden(inputs))


def test_a_model_without_weights_yet():
    weights, history = trained(AWP(adversarial()), Subclassed())
    assert len(weights) == 4
    assert np.isfinite(history["loss"]).all()


def test_the_move_raises_the_loss():
    losses = {}
    for gamma in (0.0, 0.1):
        model = network()
        secure = ks.SecureModel(model, objective=AWP(ks.objectives.Standard(), gamma))
        secure.compile(keras.optimizers.SGD(0.0), LOSS)
        losses[gamma] = secure.train_on_batch(X, Y)
    assert (
        float(ops.convert_to_numpy(losses[0.1])) > float(ops.convert_to_numpy(losses[0.0])) + 0.01
    )


def test_serialization_and_refusals():
    objective = AWP(adversarial(), gamma=0.02)
    config = keras.saving.serialize_keras_object(objective)
    revived = keras.saving.deserialize_keras_object(config)
    assert keras.saving.serialize_keras_object(revived) == config
    with pytest.raises(InputError, match="objective is a str"):
        AWP("trades")
    for gamma in (-0.1, float("nan"), "0.1"):
        with pytest.raises(InputError, match="gamma="):
            AWP(adversarial(), gamma=gamma)
    with pytest.raises(InputError, match="takes a step of its own"):
        AWP(AWP(adversarial()))
    with pytest.raises(InputError, match="stands inside Mixup"):
        ks.SecureModel(network(), objective=ks.objectives.Mixup(AWP(adversarial())))
    with pytest.raises(PrivacyError, match="more than one gradient of each batch"):
        trained(
            AWP(adversarial()),
            optimizer=ks.optimizers.DPSGD(0.1, l2_norm_clip=1.0, noise_multiplier=1.0),
        )
