"""Auto-PGD against a plain transcription of the papers, and against PGD."""

import math
from fractions import Fraction

import keras
import numpy as np
import pytest
from harness_attacks import distance, linear_model, run_attack_harness
from keras import ops

from keras_secure import backend
from keras_secure.attacks import APGD, PGD, Problem
from keras_secure.attacks.sparse_schedule import _at_rank
from keras_secure.attacks.step_schedule import checkpoints, first_iterate, next_iterate, periods
from keras_secure.errors import InputError

STEPS = 100


@pytest.mark.parametrize(
    ("norm", "epsilon"),
    [
        ("linf", 0.1),
        pytest.param("l2", 0.5, marks=pytest.mark.slow),
        pytest.param("l1", 2.0, marks=pytest.mark.slow),
    ],
)
def test_harness(norm, epsilon):
    arguments = {"epsilon": epsilon, "norm": norm, "steps": 6, "seed": 0}
    run_attack_harness(APGD, arguments, fixed_start={"random_start": False})


# The paper's algorithm, slowly


def paper_checkpoints(steps):
    shares = [Fraction(0), Fraction(22, 100)]
    while shares[-1] <= 1:
        width = max(shares[-1] - shares[-2] - Fraction(3, 100), Fraction(6, 100))
        shares.append(shares[-1] + width)
    return [math.ceil(share * steps) for share in shares if share <= 1]


def algorithm_1(evaluate, direction, hold, x_0, epsilon, steps, rho=0.75):
    """Algorithm 1 of arXiv 2003.01690 for one example; returns eta(0), ..., eta(steps - 1).

    `evaluate(k, x)` gives the loss and its gradient at the k-th point that is looked at.
    """
    marks = paper_checkpoints(steps)
    eta = 2 * epsilon
    f_0, g_0 = evaluate(0, x_0)
    before, x = x_0, hold(x_0 + eta * direction(g_0))
    f, g = evaluate(1, x)
    f_max, x_max, g_max = (f_0, x_0, g_0) if f_0 >= f else (f, x, g)
    etas, losses, maxima = [eta, eta], [f_0, f], [f_0, f_max]
    for k in range(1, steps - 1):
        z = hold(x + eta * direction(g))
        new = hold(x + 0.75 * (z - x) + 0.25 * (x - before))
        f, g = evaluate(k + 1, new)
        if f > f_max:
            f_max, x_max, g_max = f, new, g
        before, x = x, new
        if k in marks:
            last = marks[marks.index(k) - 1]
            rises = sum(losses[i + 1] > losses[i] for i in range(last, k))
            condition_1 = rises < rho * (k - last)
            condition_2 = etas[last] == etas[k] and maxima[last] == maxima[k]
            if condition_1 or condition_2:
                eta, x, f, g = eta / 2, x_max, f_max, g_max
        etas.append(eta)
        losses.append(f)
        maxima.append(f_max)
    return etas


def record(attack, model, x, labels, epsilon):
    """Runs an attack step by step; returns points, losses, gradients and the states after."""
    points, losses, gradients, states = [], [], [], []

    class Recorded(Problem):
        def gradient(self, x_adv, loss):
            values, logits, gradient = super().gradient(x_adv, loss)
            points.append(ops.convert_to_numpy(x_adv).astype("float64"))
            losses.append(ops.convert_to_numpy(values))
            gradients.append(ops.convert_to_numpy(gradient).astype("float64"))
            return values, logits, gradient

    rng = np.random.default_rng(2)
    problem = Recorded(
        model,
        ops.convert_to_tensor(x),
        ops.convert_to_tensor(labels),
        epsilon,
        draw=lambda batch, counter, count: ops.convert_to_tensor(
            rng.random((batch, count)).astype("float32")
        ),
    )
    state = attack.begin(problem)
    for index in range(attack.steps):
        state = attack.step(problem, state, ops.convert_to_tensor(index, "int32"))
        states.append({name: ops.convert_to_numpy(value) for name, value in state.items()})
    return points, losses, gradients, states


def curved_model():
    """Bent enough that large steps overshoot."""
    rng = np.random.default_rng(4)
    model = keras.Sequential(
        [
            keras.Input((12,)),
            keras.layers.Dense(16, activation="tanh"),
            keras.layers.Dense(16, activation="tanh"),
            keras.layers.Dense(5),
        ]
    )
    model.set_weights([rng.normal(size=w.shape) * 1.2 for w in model.get_weights()])
    return model


@pytest.mark.parametrize(
    ("norm", "epsilon", "loss"),
    [("linf", 0.2, "ce"), ("linf", 0.1, "dlr"), ("l2", 0.6, "ce"), ("l2", 0.12, "dlr")],
)
def test_a_recorded_trace_is_the_papers(norm, epsilon, loss):
    model = curved_model()
    x = np.random.default_rng(6).random((12, 12)).astype("float32")
    x[:, :2] = [0.0, 1.0]
    labels = ops.convert_to_numpy(ops.argmax(model(x), axis=1)).astype("int32")
    attack = APGD(epsilon, norm=norm, loss=loss, steps=STEPS)
    points, losses, gradients, states = record(attack, model, x, labels, epsilon)

    def direction(gradient):
        if norm == "linf":
            return np.sign(gradient)
        return gradient / max(np.linalg.norm(gradient), 1e-30)

    schedules = set()
    for row, centre in enumerate(x.astype("float64")):

        def evaluate(k, point, row=row):
            # The trace is the paper's point by point, not only in its step sizes.
            np.testing.assert_allclose(point, points[k][row], atol=2e-5)
            return losses[k][row], gradients[k][row]

        def hold(point, centre=centre):
            if norm == "linf":
                point = np.clip(point, centre - epsilon, centre + epsilon)
            else:
                length = np.linalg.norm(point - centre)
                point = centre + (point - centre) * min(1, epsilon / max(length, 1e-30))
            return np.clip(point, 0, 1)

        expected = algorithm_1(evaluate, direction, hold, points[0][row], epsilon, STEPS)
        found = [state["step_size"][row] for state in states]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        schedules.add(tuple(found))
    assert len(schedules) > 1, "the examples should differ in when they halve"


def test_both_conditions_halve_as_in_the_paper():
    """Losses that no model has, so that each condition decides somewhere by itself."""
    rng = np.random.default_rng(0)
    count = 300
    # Long climbs and sudden falls: many rises without a new maximum.
    steady = rng.random((STEPS, count)) < rng.uniform(0.5, 0.99, count)
    falls = rng.exponential(1.0, (STEPS, count)) * rng.uniform(1, 40, count)
    losses = np.cumsum(np.where(steady, 1.0, -falls), axis=0).astype("float32")
    x = np.full((count, 2), 0.5, "float32")
    state = first_iterate(ops.convert_to_tensor(x), ops.convert_to_tensor(0.1))
    table, found = periods(STEPS), []
    for k in range(STEPS):
        state = backend.fused(next_iterate)(
            state,
            ops.convert_to_tensor(losses[k]),
            ops.convert_to_tensor(np.ones_like(x)),
            ops.convert_to_tensor(x),
            ops.convert_to_tensor(0.1),
            ops.convert_to_tensor(k, "int32"),
            ops.convert_to_tensor(table[k]),
            "linf",
            (0.0, 1.0),
            0.75,
            0.75,
        )
        found.append(ops.convert_to_numpy(state["step_size"]))
    found = np.array(found)

    def schedule(row, rho=0.75):
        return algorithm_1(
            lambda k, _: (losses[k, row], None), lambda _: 0.0, lambda x: x, 0.0, 0.1, STEPS, rho
        )

    expected = np.array([schedule(row) for row in range(count)]).T
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # With rho = 0 the first condition never holds: what halves is the second one.
    only_second = np.array([schedule(row, rho=0.0) for row in range(count)]).T
    assert (only_second[-1] < 0.2).any()
    assert (expected[-1] == 0.2).any()
    assert (expected != only_second).any()


@pytest.mark.parametrize("steps", [1, 2, 7, 10, 50, 100, 333, 1000])
def test_checkpoints_are_the_papers(steps):
    assert checkpoints(steps) == tuple(sorted(set(paper_checkpoints(steps)) - {0}))
    table = periods(steps)
    assert np.flatnonzero(table).tolist() == list(checkpoints(steps))
    assert table.sum() == checkpoints(steps)[-1]


def slow_project_l1(point, centre, radius):
    """Onto the l1 ball and [0, 1], by halving the interval that holds the threshold."""
    delta = point - centre
    room = np.where(delta > 0, 1 - centre, centre)
    kept = np.minimum(np.abs(delta), room)
    low, high = 0.0, np.abs(delta).max()
    if kept.sum() > radius:
        for _ in range(100):
            middle = (low + high) / 2
            kept = np.clip(np.abs(delta) - middle, 0, room)
            low, high = (middle, high) if kept.sum() > radius else (low, middle)
    return centre + np.sign(delta) * kept


def test_a_recorded_trace_in_l1_is_the_papers():
    model = linear_model()
    x = np.random.default_rng(6).random((8, 5, 5, 1)).astype("float32")
    x[x < 0.2] = 0.0
    labels = ops.convert_to_numpy(ops.argmax(model(x), axis=1)).astype("int32")
    epsilon = 1.5
    attack = APGD(epsilon, norm="l1", steps=STEPS)
    points, losses, gradients, states = record(attack, model, x, labels, epsilon)
    size = x[0].size
    resets = 0
    for row, centre in enumerate(x.astype("float64")):
        best = point = points[0][row]
        for start, stop, multiple in [(0, 30, 3), (30, 60, 2), (60, 100, 1)]:
            radius = multiple * epsilon
            if start:
                point = slow_project_l1(best, centre, radius)
                moving = np.count_nonzero(points[start][row] != x[row]) / 1.5
                last = moving * 1.5
            else:
                moving, last = 0.2 * size, size
            eta, highest = radius, -math.inf
            for k in range(start, stop):
                np.testing.assert_allclose(point, points[k][row], atol=2e-5)
                assert np.abs(points[k][row] - centre).sum() <= radius * (1 + 1e-5)
                point, gradient = points[k][row], gradients[k][row]
                if losses[k][row] > highest:
                    highest, best, best_gradient = losses[k][row], point, gradient
                # Every four hundredths of the ball's own steps.
                if k > start and (k - start) % math.ceil(0.04 * (stop - start)) == 0:
                    moved = np.count_nonzero(best != x[row])
                    if moved < 0.95 * last:
                        resets += 1
                        eta, point, gradient = radius, best, best_gradient
                    else:
                        eta = max(eta / 1.5, radius / 10)
                    moving, last = moved / 1.5, moved
                kept = max(math.ceil(moving - 1e-5), 1)
                smallest = np.sort(np.abs(gradient), axis=None)[-kept]
                signs = np.sign(gradient) * (np.abs(gradient) >= smallest)
                step = eta * signs / np.abs(signs).sum()
                if k + 1 == stop and stop < STEPS:
                    continue
                assert states[k]["step_size"][row] == pytest.approx(eta, rel=1e-5)
                point = slow_project_l1(point + step, centre, radius)
    assert resets > 8


def test_the_value_at_a_rank_is_that_of_sorting():
    rng = np.random.default_rng(1)
    size = np.abs(rng.normal(size=(50, 64))) * 10.0 ** rng.uniform(-20, 6, (50, 1))
    count = rng.integers(1, 65, (50, 1))
    size = size.astype("float32")
    smallest = ops.convert_to_numpy(_at_rank(ops.convert_to_tensor(size), count))
    np.testing.assert_array_equal((size >= smallest).sum(axis=1), count[:, 0])


# What it is worth


@pytest.fixture(scope="module")
def trained(digits):
    keras.utils.set_random_seed(3)
    x, y = digits
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(12, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    noisy = x[:1400] + np.random.default_rng(0).uniform(-0.1, 0.1, x[:1400].shape)
    model.fit(noisy, y[:1400], epochs=15, batch_size=64, verbose=0)
    return model, x[1400:1700], y[1400:1700]


@pytest.mark.parametrize(
    ("norm", "epsilon"),
    [
        ("linf", 0.06),
        pytest.param("l2", 0.4, marks=pytest.mark.slow),
        pytest.param("l1", 1.5, marks=pytest.mark.slow),
    ],
)
def test_it_is_at_least_as_strong_as_pgd(trained, norm, epsilon):
    model, x, y = trained
    x, y = x[:150], y[:150]
    options = {"batch_size": 150, "verbose": 0}

    def rates(make):
        found = [make(seed).run(model, x, y, **options) for seed in range(3)]
        for result in found:
            assert (distance(result.x_adv, x, norm) <= epsilon * (1 + 1e-6)).all()
        return np.mean([result.success_rate for result in found])

    pgd = rates(lambda seed: PGD(epsilon, norm=norm, steps=40, seed=seed))
    apgd = rates(lambda seed: APGD(epsilon, norm=norm, steps=40, seed=seed))
    assert 0.1 < apgd < 0.98
    assert apgd >= pgd - 0.002


def test_targets_are_tried_one_after_the_other(trained):
    model, x, y = trained
    x, y = x[:60], y[:60]
    attack = APGD(0.06, loss="dlr", steps=20, num_targets=9, seed=0)
    result = attack.run(model, x, y, batch_size=64, verbose=0)
    logits = ops.convert_to_numpy(model(x)).astype("float64")
    logits[np.arange(len(y)), y] = -np.inf
    ranked = np.argsort(-logits, axis=1)
    answers = ops.convert_to_numpy(ops.argmax(model(result.x_adv), axis=1))
    moved = result.success & (result.distance > 0)
    started = (result.first_success_step[moved] - 1) // 20
    assert len(set(started)) > 1, "some examples need a later target"
    # Going for a class mostly ends in it, if it ends at all.
    hit = ranked[moved, started] == answers[moved]
    assert hit.mean() > 0.7
    untargeted = APGD(0.06, loss="dlr", steps=20, seed=0).run(model, x, y, verbose=0)
    assert result.success.sum() >= untargeted.success.sum()


@pytest.mark.parametrize(("classes", "starts"), [(2, 1), (3, 2), (4, 3), (12, 9)])
def test_there_are_no_more_targets_than_wrong_classes(classes, starts):
    assert APGD(0.1, num_targets=9).starts(classes) == starts
    assert APGD(0.1, num_targets=9, restarts=2).starts(classes) == 2 * starts
    assert APGD(0.1, restarts=2).starts(classes) == 2


@pytest.mark.parametrize("units", [1, 2, 3])
@pytest.mark.parametrize("num_targets", [None, 9])
def test_few_classes(units, num_targets):
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(units, "sigmoid" if units == 1 else None)]
    )
    kernel = np.random.default_rng(1).normal(size=(6, units))
    # All borders meet in the middle of the cube, so that every class is near.
    model.set_weights([kernel, -0.5 * kernel.sum(axis=0)])
    x = np.random.default_rng(0).random((6, 6)).astype("float32")
    outputs = ops.convert_to_numpy(model(x))
    y = outputs[:, 0] > 0.5 if units == 1 else outputs.argmax(axis=1)
    attack = APGD(0.6, loss="dlr", steps=20, num_targets=num_targets, seed=0)
    result = attack.run(model, x, y.astype("int32"), batch_size=8, verbose=0)
    assert np.isfinite(result.x_adv).all()
    assert result.success.all()


class Scaled(keras.Model):
    """A model whose logits are multiplied."""

    def __init__(self, inner, factor):
        super().__init__()
        self.inner, self.factor = inner, factor

    def call(self, x):
        return self.factor * self.inner(x)


@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_confidence_protects_nothing(trained, loss):
    model, x, y = trained
    x, y = x[:100], y[:100]
    attack = APGD(0.06, loss=loss, steps=20, seed=0)
    plain = attack.run(model, x, y, verbose=0).success_rate
    scaled = attack.run(Scaled(model, 1e4), x, y, from_logits=True, verbose=0).success_rate
    assert abs(scaled - plain) <= (0.01 if loss == "dlr" else 0.05)


def test_rows_follow_their_own_schedule():
    model = curved_model()
    x = np.random.default_rng(6).random((9, 12)).astype("float32")
    labels = ops.convert_to_numpy(ops.argmax(model(x), axis=1)).astype("int32")
    attack = APGD(0.02, steps=30, seed=5)
    together = attack.run(model, x, labels, batch_size=9, verbose=0)
    apart = attack.run(model, x, labels, batch_size=3, verbose=0)
    np.testing.assert_array_equal(together.success, apart.success)
    np.testing.assert_allclose(together.x_adv, apart.x_adv, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"loss": "mse"}, "'ce' or 'dlr'"),
        ({"steps": 0}, "steps=0"),
        ({"restarts": 1.5}, "restarts=1.5"),
        ({"num_targets": 0}, "num_targets=0"),
        ({"num_targets": 3, "targeted": True}, "one of the two"),
        ({"rho": 1.5}, "rho=1.5"),
        ({"random_start": 1}, "random_start=1"),
        ({"restarts": 2, "random_start": False}, "repeat one search"),
    ],
)
def test_what_cannot_be_used_is_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        APGD(0.1, **arguments)
