"""Free adversarial training: every replay by hand, batches of any size, and refusals."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_secure as ks
from keras_secure.errors import InputError, PrivacyError
from keras_secure.objectives import FreeAdversarialTraining

RNG = np.random.default_rng(0)
X = RNG.uniform(0.0, 1.0, (14, 5)).astype("float32")
Y = RNG.integers(0, 3, 14).astype("int32")
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network():
    keras.utils.set_random_seed(4)
    return keras.Sequential([keras.Input((5,)), layers.Dense(7, "relu"), layers.Dense(3)])


def trained(objective, model=None, x=X, epochs=1, **options):
    model = network() if model is None else model
    secure = ks.SecureModel(model, objective=objective)
    secure.compile(keras.optimizers.SGD(0.5), LOSS, metrics=["accuracy"], **options)
    history = secure.fit(x, Y, batch_size=4, epochs=epochs, shuffle=False, verbose=0).history
    return model.get_weights(), history, secure


def by_hand(replays, move, ball, epochs=1):
    """Algorithm 1 of the paper, with TensorFlow's tape and nothing else."""
    model, delta = network(), np.zeros((4, 5), "float32")
    for _ in range(epochs):
        for start in range(0, len(X), 4):
            x, y = X[start : start + 4], Y[start : start + 4]
            for _ in range(replays):
                inputs = tf.Variable(np.clip(x + delta[: len(x)], 0.0, 1.0))
                with tf.GradientTape() as tape:
                    loss = LOSS(y, model(inputs, training=True))
                weights = [v.value for v in model.trainable_variables]
                *by_weight, by_input = tape.gradient(loss, [*weights, inputs])
                for variable, gradient in zip(model.trainable_variables, by_weight, strict=True):
                    variable.assign_sub(0.5 * gradient)
                delta[: len(x)] = ball(delta[: len(x)] + move(np.asarray(by_input)))
    return model.get_weights(), float(loss)


@pytest.mark.parametrize("mode", ["graph", "eager", "jit"])
@pytest.mark.parametrize("replays", [1, 3])
def test_linf_is_the_algorithm_of_the_paper(mode, replays):
    # Fourteen examples in batches of four: the last batch is smaller, and the second epoch goes on.
    options = {"run_eagerly": mode == "eager", "jit_compile": mode == "jit"}
    size = 4 if mode == "jit" else None
    objective = FreeAdversarialTraining(ks.attacks.FGSM(0.1), replays, batch_size=size)
    found, history, secure = trained(objective, epochs=2, **options)
    expected, loss = by_hand(
        replays, lambda g: 0.1 * np.sign(g), lambda d: np.clip(d, -0.1, 0.1), epochs=2
    )
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert int(secure.optimizer.iterations) == 2 * 4 * replays
    assert np.isfinite(history["loss"]).all()
    assert np.isfinite(loss)


def test_l2():
    def unit(gradient):
        return gradient / np.linalg.norm(gradient, axis=1, keepdims=True)

    def ball(delta):
        length = np.linalg.norm(delta, axis=1, keepdims=True)
        return delta * np.minimum(0.3 / np.maximum(length, 1e-12), 1.0)

    attack = ks.attacks.PGD(0.3, norm="l2", step_size=0.2)
    found, _, _ = trained(FreeAdversarialTraining(attack, 3))
    for ours, theirs in zip(found, by_hand(3, lambda g: 0.2 * unit(g), ball)[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_larger_batches_than_before_start_from_zero():
    objective = FreeAdversarialTraining(ks.attacks.FGSM(0.1), 2)
    model = network()
    trained(objective, model)
    _, history, _ = trained(objective, model, x=X)
    secure = ks.SecureModel(model, objective=objective)
    secure.compile("sgd", LOSS)
    secure.fit(X, Y, batch_size=7, verbose=0)
    assert tuple(objective._carried.value().shape) == (7, 5)
    assert np.isfinite(history["loss"]).all()


def test_a_curriculum_acts_on_it():
    objective = FreeAdversarialTraining(ks.attacks.FGSM(0.1), 2)
    secure = ks.SecureModel(network(), objective=objective)
    secure.compile("sgd", LOSS)
    shares = ks.callbacks.EpsilonCurriculum(lambda epochs: 0.5)
    secure.fit(X, Y, batch_size=7, verbose=0, callbacks=[shares])
    assert np.abs(objective._carried.numpy()).max() == pytest.approx(0.05, rel=1e-5)


def test_half_precision_and_several_steps_at_once():
    keras.config.set_dtype_policy("mixed_float16")
    objective = FreeAdversarialTraining(ks.attacks.FGSM(0.1), 2)
    _, history, secure = trained(objective, steps_per_execution=2)
    assert type(secure.optimizer) is keras.optimizers.LossScaleOptimizer
    assert np.isfinite(history["loss"]).all()
    assert np.abs(objective._carried.numpy()).max() == pytest.approx(0.1, rel=1e-3)


def test_statistics_dropout_and_penalties_take_part():
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(7, activity_regularizer="l2", kernel_regularizer="l2"),
            layers.BatchNormalization(momentum=0.0),
            layers.Dropout(0.3),
            layers.Dense(3),
        ]
    )
    _, history, _ = trained(FreeAdversarialTraining(ks.attacks.FGSM(0.1), 3), model)
    assert np.isfinite(history["loss"]).all()
    assert np.abs(model.layers[1].moving_mean.numpy()).max() > 0


def test_it_makes_a_model_robust(digits):
    x, y = digits[0][:1000], digits[1][:1000]
    robust = {}
    for name, objective in (
        ("plain", None),
        ("free", FreeAdversarialTraining(ks.attacks.FGSM(0.1), 4)),
    ):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(64, "relu"), layers.Dense(10)]
        )
        secure = ks.SecureModel(model, objective=objective)
        secure.compile(keras.optimizers.Adam(3e-3), LOSS)
        secure.fit(x, y, batch_size=50, epochs=16 if objective is None else 4, verbose=0)
        attack = ks.attacks.PGD(0.1, steps=10, seed=0)
        result = attack.run(model, digits[0][1000:1300], digits[1][1000:1300], verbose=0)
        robust[name] = 1 - result.success_rate
    assert robust["free"] > robust["plain"] + 0.08


def test_serialization():
    objective = FreeAdversarialTraining(ks.attacks.FGSM(0.1), 3, batch_size=8)
    config = keras.saving.serialize_keras_object(objective)
    revived = keras.saving.deserialize_keras_object(config)
    assert keras.saving.serialize_keras_object(revived) == config
    assert (revived.replays, revived.batch_size, revived.attack.epsilon) == (3, 8, 0.1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FreeAdversarialTraining(ks.attacks.PGD(0.1, norm="l1")), "linf or l2"),
        (lambda: FreeAdversarialTraining(0.1), "steps along the gradient"),
        (lambda: FreeAdversarialTraining(ks.attacks.FGSM(0.1, targeted=True)), "targeted=False"),
        (lambda: FreeAdversarialTraining(ks.attacks.FGSM(0.1), replays=0), "replays=0"),
        (lambda: FreeAdversarialTraining(ks.attacks.FGSM(0.1), batch_size=0), "batch_size=0"),
    ],
)
def test_arguments_are_checked(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_refusals():
    free = FreeAdversarialTraining(ks.attacks.FGSM(0.1))
    with pytest.raises(InputError, match="give it batch_size"):
        trained(free, jit_compile=True)
    secure = ks.SecureModel(network(), objective=free)
    with pytest.raises(PrivacyError, match="more than one gradient of each batch"):
        secure.compile(ks.optimizers.DPSGD(0.1, l2_norm_clip=1.0, noise_multiplier=1.0), LOSS)
    with pytest.raises(InputError, match="stands inside Mixup"):
        ks.SecureModel(network(), objective=ks.objectives.Mixup(free))
    secure = ks.SecureModel(network(), objective=free)
    secure.compile("sgd", LOSS)
    with pytest.raises(InputError, match="given several"):
        secure.fit([X, X], Y, verbose=0)
