"""FGSM with a random start: one step of fast adversarial training, by hand."""

import keras
import numpy as np
import pytest
from harness_attacks import run_attack_harness

from keras_secure.attacks import FGSM
from keras_secure.errors import InputError


def test_behaves():
    arguments = {"epsilon": 0.1, "random_start": True, "seed": 3}
    run_attack_harness(FGSM, arguments, fixed_start={"random_start": False})


def linear(weights):
    model = keras.Sequential([keras.Input((len(weights),)), keras.layers.Dense(1)])
    model.set_weights([weights[:, None], np.zeros(1)])
    return model


def test_a_uniform_start_then_one_step_cut_off_at_the_ball():
    # Class 1 is left against the sign of the weights, wherever the start is.
    weights = np.where(np.arange(3000) % 2, 1.0, -1.0).astype("float32")
    model, x = linear(weights), np.full((1, 3000), 0.5, "float32")

    def moved(epsilon=0.3, **arguments):
        attack = FGSM(epsilon, random_start=True, seed=1, **arguments)
        x_adv = attack.perturb(model, x, [1], from_logits=True)
        return ((np.asarray(x_adv) - x) * -weights)[0]

    # Uniform in [-0.3, 0.3], then 0.2 further, cut off at 0.3: a third of the values are.
    short = moved(step_size=0.2)
    assert short.min() == pytest.approx(-0.1, abs=2e-3)
    assert np.isclose(short, 0.3, atol=1e-6).mean() == pytest.approx(1 / 3, abs=0.03)
    inside = short[short < 0.299]
    assert np.histogram(inside, bins=4, range=(-0.1, 0.3))[0].min() > 0.2 * len(inside)
    # The step of the paper is 1.25 epsilon; it follows an epsilon given later.
    np.testing.assert_array_equal(moved(), moved(step_size=0.375))
    assert moved().min() == pytest.approx(0.075, abs=2e-3)
    later = FGSM(0.3, random_start=True, seed=1).perturb(model, x, [1], epsilon=0.1)
    np.testing.assert_allclose(((np.asarray(later) - x) * -weights)[0], moved(0.1), atol=1e-6)


def test_in_training_values_at_the_edge_of_the_box_reach_more_than_its_corners():
    weights = np.ones(2000, "float32")
    model, x = linear(weights), np.zeros((1, 2000), "float32")
    attack = FGSM(0.3, random_start=True, seed=1)
    x_adv = np.asarray(attack.perturb(model, x, [0], from_logits=True))[0]
    # Up by 0.375 from a uniform point of [-0.3, 0.3], cut off at 0.3.
    assert x_adv.min() == pytest.approx(0.075, abs=2e-3)
    assert np.isclose(x_adv, 0.3).mean() == pytest.approx(0.625, abs=0.04)
    # A search judges its starts, which therefore keep to the box.
    found = attack.run(model, x, [0], from_logits=True, verbose=0).x_adv
    assert found.min() == 0.0
    assert found.max() <= 0.3 + 1e-6


def test_without_a_random_start_it_is_what_it_was():
    weights = np.array([1.0, -2.0, 0.5], "float32")
    model, x = linear(weights), np.full((2, 3), 0.5, "float32")
    for attack, size in ((FGSM(0.1), 0.1), (FGSM(0.1, step_size=0.04), 0.04)):
        x_adv = attack.perturb(model, x, [1, 0], from_logits=True)
        expected = x + size * np.sign(weights) * np.array([[-1.0], [1.0]])
        np.testing.assert_allclose(x_adv, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"random_start": 1}, "random_start=1"),
        ({"step_size": 0}, "step_size=0"),
        ({"step_size": float("inf")}, "step_size=inf"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_arguments_are_checked(arguments, words):
    with pytest.raises(InputError, match=words):
        FGSM(0.1, **arguments)
