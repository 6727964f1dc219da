"""The momentum method and random noise: the harness, slow truths, and what is particular."""

import keras
import numpy as np
import pytest
from harness_attacks import distance, linear_model, run_attack_harness
from keras import ops

from keras_secure import backend
from keras_secure.attacks import FGSM, MIFGSM, PGD, RandomNoise
from keras_secure.errors import InputError


@pytest.mark.parametrize(
    "init_kwargs",
    [
        pytest.param({"epsilon": 0.1, "steps": 5}, id="linf"),
        pytest.param(
            {"epsilon": 0.3, "norm": "l2", "steps": 5, "decay": 0.5},
            id="l2",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_momentum_behaves(init_kwargs):
    run_attack_harness(MIFGSM, init_kwargs)


def slow_momentum(model, x, label, *, epsilon, steps, decay, norm):
    """Algorithm 1 on one example, with the gradient of cross-entropy itself."""

    labels = np.array([label])

    def loss(t):
        logits = model(ops.expand_dims(t, 0))
        return ops.sum(
            keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        )

    point, gathered = x.copy(), np.zeros_like(x)
    for _ in range(steps):
        gradient = np.asarray(backend.input_gradient(loss, ops.convert_to_tensor(point))[1])
        gathered = decay * gathered + gradient / np.abs(gradient).sum()
        if norm == "linf":
            point = point + epsilon / steps * np.sign(gathered)
        else:
            point = point + epsilon / steps * gathered / np.linalg.norm(gathered)
        point = np.clip(point, 0, 1).astype("float32")
    return point


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_momentum_takes_the_steps_of_the_paper(norm):
    model = linear_model()
    x = np.random.default_rng(0).random((3, 5, 5, 1)).astype("float32")
    labels = np.argmax(np.asarray(model(x)), axis=1)
    settings = {"epsilon": 0.2, "steps": 6, "decay": 0.9, "norm": norm}
    found = np.asarray(MIFGSM(**settings).perturb(model, x, labels))
    for row, label, x_adv in zip(x, labels, found, strict=True):
        expected = slow_momentum(model, row, label, **settings)
        # Where the box binds, the joint projection gives back what clipping alone cuts off.
        inside = np.abs(expected - 0.5) < 0.499
        np.testing.assert_allclose(x_adv[inside], expected[inside], atol=2e-5)


def test_without_decay_momentum_is_the_basic_iterative_method():
    model = linear_model()
    x = np.random.default_rng(0).random((3, 5, 5, 1)).astype("float32")
    basic = PGD(0.2, steps=5, step_size=0.04, random_start=False).perturb(model, x, [0, 1, 2])
    np.testing.assert_allclose(
        MIFGSM(0.2, steps=5, decay=0.0).perturb(model, x, [0, 1, 2]), basic, atol=1e-6
    )
    one = MIFGSM(0.2, steps=1).perturb(model, x, [0, 1, 2])
    np.testing.assert_allclose(one, FGSM(0.2).perturb(model, x, [0, 1, 2]), atol=1e-6)


def test_momentum_survives_a_gradient_that_is_not_finite():
    class Kink(keras.layers.Layer):
        def call(self, inputs):
            return ops.sqrt(inputs - 0.5)

    model = keras.Sequential([keras.Input((2,)), Kink(), keras.layers.Dense(3)])
    x_adv = MIFGSM(0.1).perturb(model, np.full((2, 2), 0.5, "float32"), [0, 1])
    assert np.isfinite(np.asarray(x_adv)).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_noise_is_uniform_in_the_ball_and_keeps_the_highest_loss(norm):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.set_weights([np.array([[1.0], [2.0], [-1.0]]), np.array([100.0])])
    x = np.full((2000, 3), 0.5, "float32")
    ones = np.ones(len(x), int)
    single, many = (
        np.asarray(RandomNoise(0.4, norm=norm, draws=draws, seed=0).perturb(model, x, ones))
        for draws in (1, 20)
    )
    from scipy.stats import kstest

    # In three dimensions the radius cubed of a uniform point of the ball is uniform.
    radii = distance(single, x, norm) / 0.4
    assert kstest(radii**3, "uniform").pvalue > 1e-3
    assert kstest((radii * 0.95) ** 3, "uniform").pvalue < 1e-3
    # Of twenty losses the highest is kept: the logit falls from the middle to its lowest values.
    first, last = (np.asarray(model(points))[:, 0] for points in (single, many))
    assert kstest(first, "norm", args=(101.0, first.std())).statistic < 0.1  # around the middle
    assert np.mean(last < np.median(first)) > 0.99
    assert last.mean() < first.mean() - 1.5 * first.std()


def test_noise_stops_at_the_first_that_fools_and_repeats_by_its_seed():
    model = linear_model()
    x = np.random.default_rng(0).random((32, 5, 5, 1)).astype("float32")
    y = np.argmax(np.asarray(model(x)), axis=1)
    runs = [RandomNoise(0.5, draws=60, seed=seed).run(model, x, y, verbose=0) for seed in (1, 1, 2)]
    assert runs[0].success.mean() > 0
    np.testing.assert_array_equal(runs[0].x_adv, runs[1].x_adv)
    assert (runs[0].x_adv != runs[2].x_adv).any()
    answers = np.argmax(np.asarray(model(runs[0].x_adv)), axis=1)
    np.testing.assert_array_equal(runs[0].success, answers != y)
    found = runs[0].success
    np.testing.assert_array_equal(runs[0].queries[found], 2 + runs[0].first_success_step[found])
    # Gradients do better at the same radius, or they are hidden.
    assert PGD(0.5, seed=0).run(model, x, y, verbose=0).success.sum() >= found.sum()


def test_noise_in_training_is_the_worst_of_its_draws():
    model = linear_model()
    x = np.full((4, 5, 5, 1), 0.5, "float32")
    attack = RandomNoise(0.1, draws=8, seed=0)
    step = backend.compiled(lambda x, y: attack.perturb(model, x, y), jit_compile=True)
    x_adv = np.asarray(step(x, ops.convert_to_tensor([0, 1, 2, 3])))
    assert 0 < np.abs(x_adv - x).max() <= 0.1 + 1e-6
    given = attack.perturb(model, x, loss=lambda t: ops.sum(t, axis=(1, 2, 3)))
    alone = RandomNoise(0.1, draws=1, seed=0).perturb(model, x, [0, 1, 2, 3])
    assert np.asarray(given).sum() > np.asarray(alone).sum()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MIFGSM(0.1, norm="l1"), "'linf' and 'l2'"),
        (lambda: MIFGSM(0.1, steps=0), "steps"),
        (lambda: MIFGSM(0.1, decay=-0.1), "decay"),
        (lambda: MIFGSM(0.1, step_size=0), "step_size"),
        (lambda: MIFGSM(None), "epsilon"),
        (lambda: RandomNoise(0.1, draws=0), "draws"),
        (lambda: RandomNoise(None), "epsilon"),
    ],
)
def test_arguments_are_checked(make, words):
    with pytest.raises(InputError, match=words):
        make()
