"""Every attack through the behaviour harness, and what is particular to each."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from harness_attacks import linear_model, run_attack_harness
from keras import ops

from keras_secure.attacks import FGM, FGSM, PGD
from keras_secure.errors import InputError


@pytest.mark.parametrize(
    ("attack_cls", "init_kwargs", "fixed_start"),
    [
        # With and without a random start in its own file.
        pytest.param(FGSM, {"epsilon": 0.1}, None, marks=pytest.mark.slow),
        (FGM, {"epsilon": 0.3}, None),
        (PGD, {"epsilon": 0.1, "steps": 5, "seed": 3}, {"random_start": False}),
        (
            PGD,
            {"epsilon": 0.3, "norm": "l2", "steps": 5, "restarts": 2, "seed": 3},
            {"random_start": False, "restarts": 1},
        ),
        (
            PGD,
            {"epsilon": 1.0, "norm": "l1", "steps": 8, "step_size": 0.3, "sparsity": 0.1},
            {"random_start": False},
        ),
    ],
    ids=["fgsm", "fgm", "pgd_linf", "pgd_l2", "pgd_l1"],
)
def test_attack_behaves(attack_cls, init_kwargs, fixed_start):
    run_attack_harness(attack_cls, init_kwargs, fixed_start=fixed_start)


def linear_classifier(size=6):
    """Two classes told apart by one weight vector, so that the best attack is known."""
    weights = np.random.default_rng(0).normal(size=size).astype("float32")
    model = keras.Sequential([keras.Input((size,)), keras.layers.Dense(1)])
    model.set_weights([weights[:, None], np.zeros(1)])
    return model, weights


@pytest.mark.parametrize(
    ("attack", "dual"),
    [
        (FGSM(0.1), lambda w: np.abs(w).sum()),
        (FGM(0.1), lambda w: np.sqrt((w**2).sum())),
        (PGD(0.1, steps=10), lambda w: np.abs(w).sum()),
        (PGD(0.1, norm="l2", steps=40, step_size=0.1), lambda w: np.sqrt((w**2).sum())),
        (PGD(0.1, norm="l1", steps=40), lambda w: np.abs(w).max()),
    ],
    ids=["fgsm", "fgm", "pgd_linf", "pgd_l2", "pgd_l1"],
)
def test_a_linear_model_is_attacked_optimally(attack, dual):
    # Hoelder: no perturbation of norm epsilon moves w.x by more than epsilon times the dual norm.
    model, weights = linear_classifier()
    x = np.full((1, len(weights)), 0.5, "float32")
    x_adv = ops.convert_to_numpy(attack.perturb(model, x, [1]))
    moved = float((weights * (x - x_adv)[0]).sum())
    assert moved == pytest.approx(0.1 * dual(weights), rel=1e-3)


def test_steps_grow_with_an_epsilon_given_later_unless_their_size_was_given():
    model, weights = linear_classifier()
    x = np.full((1, len(weights)), 0.5, "float32")

    def reach(**arguments):
        attack = PGD(0.01, steps=10, random_start=False, **arguments)
        x_adv = attack.perturb(model, x, [1], epsilon=0.3)
        return np.abs(ops.convert_to_numpy(x_adv) - x).max()

    assert reach() == pytest.approx(0.3, rel=1e-5)
    assert reach(step_size=0.01) == pytest.approx(0.1, rel=1e-4)


def test_l1_skips_what_the_box_blocks():
    model, weights = linear_classifier()
    x = np.full((1, len(weights)), 0.5, "float32")
    steepest = np.abs(weights).argmax()
    x[0, steepest] = 0.0 if weights[steepest] > 0 else 1.0  # class 1 is left by going down
    attack = PGD(0.1, norm="l1", steps=40, sparsity=0.01, random_start=False)
    delta = (ops.convert_to_numpy(attack.perturb(model, x, [1])) - x)[0]
    second = np.abs(weights).argsort()[-2]
    assert np.abs(delta).argmax() == second
    assert abs(delta[second]) == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_random_starts_fill_the_ball_uniformly(norm):
    attack = PGD(2.0, norm=norm, bounds=(-10, 10), seed=0)
    x = np.zeros((4000, 3), "float32")
    uniforms = np.random.default_rng(0).random((4000, 4)).astype("float32")
    start = ops.convert_to_numpy(attack.start(ops.convert_to_tensor(x), uniforms, 2.0))
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    radii = np.linalg.norm(start, ord=order, axis=1) / 2.0
    # In three dimensions the radius cubed of a uniform point of the ball is uniform.
    from scipy.stats import kstest

    assert radii.max() <= 1 + 1e-6
    assert kstest(radii**3, "uniform").pvalue > 1e-3
    # ... and no direction is preferred; a shrunk ball must fail, or the test says nothing.
    assert np.abs(start.mean(axis=0)).max() < 0.1
    assert kstest((radii * 0.95) ** 3, "uniform").pvalue < 1e-3


def test_seed_repeats_random_starts_and_batches_do_not_share_them():
    model = linear_model()
    x = np.full((2, 5, 5, 1), 0.5, "float32")
    first, second = (PGD(0.1, steps=1, step_size=1e-6, seed=9) for _ in range(2))
    starts = [ops.convert_to_numpy(attack.perturb(model, x, [0, 0])) for attack in (first, second)]
    np.testing.assert_array_equal(*starts)
    again = ops.convert_to_numpy(first.perturb(model, x, [0, 0]))
    assert np.abs(again - starts[0]).max() > 0.01
    assert np.abs(starts[0][0] - starts[0][1]).max() > 0.01


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FGSM(-0.1), "epsilon"),
        (lambda: FGSM(float("nan")), "epsilon"),
        (lambda: FGSM("0.1"), "epsilon"),
        (lambda: FGM(0.1, bounds=(1, 0)), "bounds"),
        (lambda: FGM(0.1, bounds=(0, float("inf"))), "bounds"),
        (lambda: FGM(0.1, targeted=1), "targeted"),
        (lambda: PGD(0.1, norm="l3"), "linf, l2, l1"),
        (lambda: PGD(0.1, norm=2), "norm"),
        (lambda: PGD(0.1, steps=0), "steps"),
        (lambda: PGD(0.1, steps=2.5), "steps"),
        (lambda: PGD(0.1, step_size=0), "step_size"),
        (lambda: PGD(0.1, restarts=0), "restarts"),
        (lambda: PGD(0.1, restarts=2, random_start=False), "random_start=True"),
        (lambda: PGD(0.1, random_start=1), "random_start"),
        (lambda: PGD(0.1, sparsity=0), "sparsity"),
        (lambda: PGD(0.1, seed=-1), "seed"),
    ],
)
def test_arguments_are_checked(make, words):
    with pytest.raises(InputError, match=words):
        make()


class HostStep(FGSM):
    """Takes its step outside the graph, where XLA cannot follow."""

    update_compiles = False

    def update(self, x_adv, gradient, epsilon):
        def step(x_adv, gradient, epsilon):
            return x_adv + epsilon * np.sign(gradient)

        moved = tf.numpy_function(step, [x_adv, gradient, epsilon], x_adv.dtype)
        return tf.ensure_shape(moved, x_adv.shape)


def test_an_update_that_does_not_compile():
    model, _ = linear_classifier()
    x = np.random.default_rng(1).random((5, 6)).astype("float32")
    y = np.array([0, 1, 0, 1, 1])
    found = HostStep(0.1).run(model, x, y, verbose=0)
    np.testing.assert_array_equal(found.x_adv, FGSM(0.1).run(model, x, y, verbose=0).x_adv)
