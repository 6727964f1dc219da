"""Square: what a search without gradients finds, spends and keeps."""

import json

import keras
import numpy as np
import pytest
from harness_attacks import CountingModel, cross_entropy, distance, linear_model
from keras import ops

from keras_secure import backend
from keras_secure.attacks import PGD, Square, classification_logits
from keras_secure.errors import InputError

EPSILON = {"linf": 0.2, "l2": 2.5, "l1": 8.0}


def classifier(shape, units=5, seed=0, activation=None):
    """A random classifier of inputs of any shape, and inputs it has an answer for."""
    rng = np.random.default_rng(seed)
    model = keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Flatten(),
            keras.layers.Dense(16, activation="tanh"),
            keras.layers.Dense(units, activation=activation),
        ]
    )
    model.set_weights(
        [rng.normal(size=w.shape) * 4 / np.sqrt(max(w.shape)) for w in model.get_weights()]
    )
    x = rng.random((9, *shape)).astype("float32")
    logits = ops.convert_to_numpy(classification_logits(model, ops.convert_to_tensor(x)))
    return model, x, logits.argmax(axis=1)


def answers(model, x):
    return ops.convert_to_numpy(classification_logits(model, ops.convert_to_tensor(x))).argmax(1)


@pytest.mark.parametrize(
    ("shape", "norm"),
    [
        ((28, 28, 1), "linf"),
        ((8, 12, 3), "linf"),
        ((20,), "linf"),
        ((30, 2), "linf"),
        pytest.param((8, 12, 3), "l2", marks=pytest.mark.slow),
        ((30, 2), "l2"),
        pytest.param((20,), "l1", marks=pytest.mark.slow),
        ((12, 8, 1), "l1"),
    ],
)
def test_inputs_of_any_shape_are_fooled_inside_ball_and_box(shape, norm):
    model, x, y = classifier(shape)
    attack = Square(EPSILON[norm], norm=norm, queries=150, seed=0)
    result = attack.run(model, x, y, verbose=0)
    assert result.success.mean() >= 0.5
    measured = distance(result.x_adv, x, norm)
    assert (measured <= attack.epsilon * (1 + 1e-6)).all()
    assert result.x_adv.min() >= 0
    assert result.x_adv.max() <= 1
    np.testing.assert_array_equal(answers(model, result.x_adv) != y, result.success)
    assert (result.queries <= 1 + 150 + 1).all()


@pytest.mark.parametrize("norm", ["linf", pytest.param("l2", marks=pytest.mark.slow), "l1"])
def test_batches_change_nothing_and_seeds_repeat(norm):
    model, x, y = classifier((6, 5, 2))
    attack = Square(EPSILON[norm] / 3, norm=norm, queries=40, restarts=2, seed=3)
    small = attack.run(model, x, y, batch_size=4, verbose=0)
    large = attack.run(model, x, y, batch_size=16, verbose=0)
    np.testing.assert_array_equal(small.success, large.success)
    np.testing.assert_allclose(small.x_adv, large.x_adv, atol=1e-6)
    np.testing.assert_array_equal(small.queries, large.queries)
    again = attack.run(model, x, y, batch_size=4, verbose=0)
    np.testing.assert_array_equal(again.x_adv, small.x_adv)
    other = Square(EPSILON[norm] / 3, norm=norm, queries=40, restarts=2, seed=4)
    assert not np.array_equal(other.run(model, x, y, batch_size=4, verbose=0).x_adv, small.x_adv)


class Rounded(keras.layers.Layer):
    """Rounds to levels so fine that answers stay, with a gradient of exactly zero."""

    def call(self, x):
        return ops.stop_gradient(ops.round(x * 32) / 32)


def test_a_model_without_gradients_is_fooled_where_gradients_find_nothing():
    model, x, y = classifier((6, 6, 1))
    rounded = keras.Sequential([keras.Input((6, 6, 1)), Rounded(), *model.layers])
    right = answers(rounded, x) == y
    x, y = x[right], y[right]
    # Without a random start, which is a search without gradients of its own.
    blind = PGD(0.3, steps=20, random_start=False).run(rounded, x, y, verbose=0)
    assert not blind.success.any()
    found = Square(0.3, queries=150, seed=0).run(rounded, x, y, verbose=0)
    assert found.success.mean() >= 0.5


@pytest.mark.parametrize("loss", ["margin", "ce"])
def test_targets_are_reached(loss):
    model, x, y = classifier((6, 6, 1), units=4)
    targets = (y + 1) % 4
    attack = Square(0.6, queries=200, targeted=True, loss=loss, seed=0)
    result = attack.run(model, x, targets, verbose=0)
    assert result.success.mean() >= 0.5
    np.testing.assert_array_equal(answers(model, result.x_adv) == targets, result.success)


@pytest.mark.parametrize(
    ("units", "activation"), [(1, "sigmoid"), (1, None), (2, None), (3, "softmax")]
)
def test_few_classes(units, activation):
    model, x, y = classifier((5, 5, 1), units=units, activation=activation)
    result = Square(0.5, queries=100, seed=0).run(model, x, y, verbose=0)
    assert result.success.mean() >= 0.5
    np.testing.assert_array_equal(answers(model, result.x_adv) != y, result.success)


class Recorder(keras.Model):
    """Keeps what it is asked, and answers with logits that never change sides."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def call(self, x):
        self.asked.append(x)
        return ops.stack([10.0 + 0 * x[:, 0, 0, 0], ops.sum(x, axis=(1, 2, 3)) / 1000], axis=1)


def test_queries_change_one_window_and_only_better_ones_are_kept():
    from keras_secure.attacks import Problem

    model = Recorder()
    x = ops.convert_to_tensor(np.random.default_rng(0).random((2, 10, 10, 1)).astype("float32"))
    rng = np.random.default_rng(1)
    problem = Problem(
        model,
        x,
        ops.zeros((2,), "int32"),
        0.1,
        from_logits=True,
        draw=lambda batch, counter, count: ops.convert_to_tensor(
            rng.random((batch, count)).astype("float32")
        ),
    )
    attack = Square(0.1, queries=40)
    state = attack.begin(problem)
    start = ops.convert_to_numpy(state["x_adv"])
    np.testing.assert_allclose(np.abs(start - x)[(start > 0) & (start < 1)], 0.1, atol=1e-6)
    down = np.sign(start - x)
    assert (down.max(axis=1) - down.min(axis=1) <= 1).all(), "stripes run from top to bottom"
    for index in range(40):
        before = {name: ops.convert_to_numpy(value) for name, value in state.items()}
        state = attack.step(problem, state, ops.convert_to_tensor(index, "int32"))
        asked = ops.convert_to_numpy(model.asked[-1])
        side = window_side(index)
        for row in range(2):
            changed = np.argwhere((asked != before["x_adv"])[row, :, :, 0])
            if len(changed):
                assert (np.ptp(changed, axis=0) < side).all()
        kept = (ops.convert_to_numpy(state["x_adv"]) == asked).reshape(2, -1).all(axis=1)
        scores = asked.reshape(2, -1).sum(axis=1) / 1000 - 10
        if index:
            np.testing.assert_array_equal(kept, scores > before["score"])
        else:
            np.testing.assert_array_equal(asked, start)
    score = ops.convert_to_numpy(state["score"])
    assert (score > start.reshape(2, -1).sum(axis=1) / 1000 - 10).all()


def window_side(index):
    stretched = int(index / 40 * 10_000)
    halvings = sum(stretched > limit for limit in (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000))
    return max(round((0.8 / 2**halvings * 100) ** 0.5), 1)


def test_one_trace_serves_all_radii_and_stages():
    inner, x, y = classifier((5, 5, 1))
    model = CountingModel(inner)
    model(x)

    def sweep(epsilons):
        for epsilon in epsilons:
            attack = Square(epsilon, queries=30, seed=0)
            attack.run(model, x, y, batch_size=4, from_logits=True, verbose=0)

    sweep([1e-3])
    traced = model.calls
    sweep([1e-4, 2e-3, 1.0])
    assert model.calls == traced


@pytest.mark.parametrize("jit_compile", [False, True])
def test_it_can_be_trained_on(jit_compile):
    model = linear_model()
    x = np.random.default_rng(5).random((6, 5, 5, 1)).astype("float32")
    y = ops.convert_to_numpy(ops.argmax(model(x), axis=1))
    attack = Square(0.5, queries=15, seed=0)
    step = backend.compiled(lambda x, y: attack.perturb(model, x, y), jit_compile=jit_compile)
    moved = ops.convert_to_numpy(step(ops.convert_to_tensor(x), ops.convert_to_tensor(y)))
    assert (distance(moved, x, "linf") <= 0.5 * (1 + 1e-6) + 2.0**-23).all()
    assert cross_entropy(model, moved, y).mean() > cross_entropy(model, x, y).mean() + 0.02


def test_a_radius_of_zero_moves_nothing():
    model, x, y = classifier((5, 5, 1))
    result = Square(0.0, queries=10, seed=0).run(model, x, y, verbose=0)
    np.testing.assert_array_equal(result.x_adv, x)
    assert not result.success.any()


def test_answers_that_are_not_numbers_break_nothing():
    class Undefined(keras.Model):
        def call(self, x):
            bright = x[:, 0, 0, 0] > 0.6
            logits = ops.stack([ops.ones_like(x[:, 0, 0, 0]), x[:, 0, 0, 0] * 0], axis=1)
            return ops.where(bright[:, None], float("nan"), logits)

    x = np.full((2, 4, 4, 1), 0.45, "float32")
    x[1] = 0.1
    result = Square(0.2, queries=60, seed=0).run(
        Undefined(), x, [0, 0], from_logits=True, verbose=0
    )
    # No answer is a wrong answer, where it can be reached.
    np.testing.assert_array_equal(result.success, [True, False])
    assert np.isfinite(result.x_adv).all()


def test_the_arguments_rebuild_it():
    attack = Square(0.1, norm="l2", queries=7, p_init=0.5, restarts=2, loss="ce", targeted=True)
    config = attack.get_config()
    assert json.loads(json.dumps(config)) == config
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(attack))
    assert type(revived) is Square
    assert revived.get_config() == config
    assert revived.queries == revived.steps == 7


@pytest.mark.parametrize(
    "wrong",
    [
        {"queries": 0},
        {"queries": 2.5},
        {"restarts": 0},
        {"p_init": 0.0},
        {"p_init": 1.5},
        {"loss": "dlr"},
        {"norm": "l3"},
        {"epsilon": None},
    ],
)
def test_what_cannot_be_used_is_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Square(**{"epsilon": 0.1, **wrong})
