"""FAB: the nearest inputs that fool, against exact distances and other searches."""

import json

import keras
import numpy as np
import pytest
from harness_attacks import CountingModel, distance, linear_model
from keras import ops

from keras_secure.attacks import FAB, PGD, Problem, classification_logits
from keras_secure.attacks.boundary_step import boundary_step
from keras_secure.errors import InputError

ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}
DUALS = {"linf": 1, "l2": 2, "l1": np.inf}


def dense(weights, offsets, activation=None):
    model = keras.Sequential(
        [keras.Input((weights.shape[0],)), keras.layers.Dense(len(offsets), activation=activation)]
    )
    model.set_weights([weights.astype("float32"), np.asarray(offsets, "float32")])
    return model


def answers(model, x):
    return ops.convert_to_numpy(classification_logits(model, ops.convert_to_tensor(x))).argmax(1)


def distance_to_class(x, weights, offset, norm):
    """The shortest way inside the box to where weights @ x + offset >= 0, by a programme."""
    from scipy.optimize import linprog

    size = len(x)
    if norm == "l2":
        # The way is clip(t * weights) to the box, with the smallest t that leads there.
        low, high = 0.0, 1e6
        for _ in range(200):
            middle = (low + high) / 2
            reached = weights @ np.clip(x + middle * weights, 0, 1) + offset >= 0
            low, high = (low, middle) if reached else (middle, high)
        return np.inf if high == 1e6 else np.linalg.norm(np.clip(x + high * weights, 0, 1) - x)
    beyond = [weights @ x + offset]
    if norm == "l1":
        bounds = [(0, 1 - value) for value in x] + [(0, value) for value in x]
        solved = linprog(
            np.ones(2 * size), np.append(-weights, weights)[None], beyond, bounds=bounds
        )
    else:
        eye, ones = np.eye(size), np.ones((size, 1))
        below = np.block([[eye, -ones], [-eye, -ones], [-weights[None], np.zeros((1, 1))]])
        bounds = [*zip(-x, 1 - x, strict=True), (0, None)]
        cost = np.append(np.zeros(size), 1.0)
        solved = linprog(cost, below, np.append(np.zeros(2 * size), beyond), bounds=bounds)
    return solved.fun if solved.success else np.inf


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("num_targets", [None, 9])
def test_the_distance_to_linear_boundaries_is_exact(norm, num_targets):
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(8, 4))
    x = rng.random((20, 8)).astype("float32")
    x[6:][rng.random((14, 8)) < 0.7] = 0.0  # where the box stands in the way
    offsets = -weights.T @ x.mean(axis=0) + 0.1 * rng.normal(size=4)
    model = dense(weights, offsets)
    y = answers(model, x)
    inside, free = np.full((20, 4), np.inf), np.full((20, 4), np.inf)
    for i, (row, label) in enumerate(zip(x.astype("float64"), y, strict=True)):
        for k in set(range(4)) - {label}:
            normal, offset = weights[:, k] - weights[:, label], offsets[k] - offsets[label]
            inside[i, k] = distance_to_class(row, normal, offset, norm)
            free[i, k] = -(row @ normal + offset) / np.linalg.norm(normal, DUALS[norm])
    truth = inside.min(axis=1)
    result = FAB(norm=norm, steps=30, num_targets=num_targets)
    result = result.run(model, x, y, batch_size=32, verbose=0)
    # Which boundary is nearest the untargeted attack asks without the box, as the paper does.
    asked = np.isfinite(truth)
    if num_targets is None:
        asked &= inside.argmin(axis=1) == free.argmin(axis=1)
    assert asked.sum() >= 14
    assert result.success[asked].all()
    assert not result.success[~np.isfinite(truth)].any()
    measured = distance(result.x_adv, x, norm)
    np.testing.assert_array_equal(result.distance, measured)
    np.testing.assert_array_equal(answers(model, result.x_adv) != y, result.success)
    np.testing.assert_allclose(measured[asked], truth[asked], rtol=2e-3, atol=1e-6)
    assert (measured >= truth * (1 - 1e-5))[result.success].all()
    # Without the box some would be nearer, or the test would not try it.
    assert (truth > 1.01 * free.min(axis=1))[asked].any()
    assert np.isclose(truth, free.min(axis=1), rtol=1e-4)[asked].any()


@pytest.fixture(scope="module")
def digit_classifier():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, y = (bunch.images / 16.0).astype("float32")[..., None], bunch.target.astype("int32")
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(5e-3), loss)
    model.fit(x, y, batch_size=128, epochs=12, verbose=0)
    right = np.flatnonzero(answers(model, x) == y)[:32]
    return model, x[right], y[right]


@pytest.mark.parametrize(
    ("norm", "radii"),
    [
        ("linf", np.geomspace(0.02, 0.5, 11)),
        pytest.param("l2", np.geomspace(0.1, 3.0, 11), marks=pytest.mark.slow),
    ],
)
def test_no_gradient_ascent_finds_anything_much_nearer(digit_classifier, norm, radii):
    model, x, y = digit_classifier
    nearest = np.full(len(x), np.inf)
    for epsilon in radii[::-1]:
        attack = PGD(epsilon, norm=norm, steps=50, random_start=False)
        nearest = np.where(
            attack.run(model, x, y, batch_size=32, verbose=0).success, epsilon, nearest
        )
    assert np.isfinite(nearest).all()
    for num_targets in (None, 9):
        result = FAB(norm=norm, steps=50, num_targets=num_targets).run(
            model, x, y, batch_size=32, verbose=0
        )
        assert result.success.all()
        assert (result.distance <= 1.02 * nearest).mean() >= 0.95
        assert result.distance.mean() < nearest.mean()


@pytest.mark.parametrize("norm", ["linf", pytest.param("l2", marks=pytest.mark.slow), "l1"])
def test_the_last_steps_close_in_on_the_boundary(digit_classifier, norm):
    model, x, y = digit_classifier
    result = FAB(norm=norm, steps=40, num_targets=1).run(model, x, y, batch_size=32, verbose=0)
    assert result.success.all()
    inside = x + 0.99 * (result.x_adv - x)
    assert (answers(model, inside.astype("float32")) == y).mean() >= 0.9
    assert result.x_adv.min() >= 0
    assert result.x_adv.max() <= 1


def test_with_a_radius_work_stops_within_it(digit_classifier):
    model, x, y = digit_classifier
    smallest = FAB(norm="linf", steps=30, num_targets=9).run(model, x, y, batch_size=32, verbose=0)
    epsilon = float(np.median(smallest.distance))
    result = FAB(epsilon, norm="linf", steps=30, num_targets=9).run(
        model, x, y, batch_size=32, verbose=0
    )
    assert (result.distance <= epsilon * (1 + 1e-6)).all()
    assert (result.success == (smallest.distance <= epsilon)).mean() >= 0.95
    assert 0.4 <= result.success.mean() <= 0.6
    assert result.queries[result.success].max() < result.queries[~result.success].min()
    np.testing.assert_array_equal(answers(model, result.x_adv) != y, result.success)


def test_restarts_lose_nothing_repeat_and_do_not_depend_on_batches():
    model = linear_model()
    x = np.random.default_rng(6).random((9, 5, 5, 1)).astype("float32")
    y = answers(model, x)
    once = FAB(norm="l2", steps=20, num_targets=1, seed=0)
    once = once.run(model, x, y, batch_size=4, verbose=0)
    attack = FAB(norm="l2", steps=20, num_targets=1, restarts=2, seed=0)
    several = attack.run(model, x, y, batch_size=4, verbose=0)
    assert several.success.all()
    assert (several.distance <= once.distance).all()
    again = attack.run(model, x, y, batch_size=4, verbose=0)
    np.testing.assert_array_equal(again.x_adv, several.x_adv)
    together = attack.run(model, x, y, batch_size=16, verbose=0)
    np.testing.assert_allclose(together.distance, several.distance, rtol=1e-3)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_restarts_begin_within_half_the_distance(norm):
    weights = np.array([[3.0, 0.0], [-4.0, 0.0], [0.0, 0.0]])
    model = dense(weights, [0.7, 0.0])
    x = ops.full((3, 3), 0.5)  # the first class is ahead by 0.2
    rng = np.random.default_rng(0)

    def start(restart, epsilon):
        problem = Problem(
            model,
            x,
            ops.zeros((3,), "int32"),
            epsilon,
            restart=restart,
            draw=lambda batch, counter, count: ops.convert_to_tensor(
                rng.random((batch, count)).astype("float32")
            ),
            searching=True,
        )
        iterate = FAB(norm=norm, num_targets=1).begin(problem)["iterate"]
        return distance(ops.convert_to_numpy(iterate), ops.convert_to_numpy(x), norm)

    assert not start(0, np.inf).any()
    to_first_order = 0.2 / np.linalg.norm(weights[:, 0], DUALS[norm])
    for epsilon, radius in ((np.inf, to_first_order / 2), (0.01, 0.005)):
        lengths = np.concatenate([start(1, epsilon) for _ in range(20)])
        assert 0.8 * radius < lengths.max() <= radius * (1 + 1e-4)


def test_there_is_one_start_for_each_target():
    assert FAB(num_targets=9, restarts=2).starts(10) == 18
    assert FAB(num_targets=9, restarts=2).starts(4) == 6
    assert FAB(num_targets=9).starts(2) == 1
    assert FAB(restarts=2).starts(10) == 2


def test_targets_are_taken_in_the_order_of_their_likelihood():
    # Class 2 is likelier, and class 1 nearer in the one direction that only it has.
    weights = np.array([[0.0, 0.0, 2.0], [0.0, 40.0, 0.0]])
    model = dense(weights, [1.5, -10.0, 0.0])
    x, y = np.array([[0.5, 0.2]], "float32"), [0]
    likeliest = FAB(norm="l2", steps=20, num_targets=1).run(model, x, y, batch_size=32, verbose=0)
    both = FAB(norm="l2", steps=20, num_targets=2).run(model, x, y, batch_size=32, verbose=0)
    np.testing.assert_allclose(likeliest.distance, 0.25, rtol=1e-2)
    np.testing.assert_allclose(both.distance, 3.5 / 40, rtol=1e-2)
    np.testing.assert_array_equal(answers(model, both.x_adv), [1])


@pytest.mark.parametrize("activation", [None, "sigmoid"])
@pytest.mark.parametrize("num_targets", [None, 9])
def test_one_unit_is_two_classes(activation, num_targets):
    model = dense(np.array([[3.0], [4.0]]), [-4.5], activation)
    x = np.array([[0.5, 0.5], [0.9, 0.9]], "float32")
    attack = FAB(norm="l2", steps=20, num_targets=num_targets)
    result = attack.run(model, x, [0, 1], verbose=0)
    np.testing.assert_allclose(result.distance, [0.2, 0.36], rtol=2e-3)


def zero_gradient(x):
    return ops.stop_gradient(x)


def undefined_gradient(x):
    """The identity; where x is zero its gradient is infinity times zero."""
    return ops.sqrt(ops.square(x))


class Broken(keras.Model):
    def __init__(self, breaks):
        super().__init__()
        self.breaks = breaks

    def call(self, x):
        total = ops.sum(self.breaks(x), axis=1)
        return ops.stack([total, 1.0 - total, 0.2 * total], axis=1)


@pytest.mark.parametrize("norm", ["linf", pytest.param("l2", marks=pytest.mark.slow), "l1"])
@pytest.mark.parametrize(
    ("breaks", "num_targets"), [(zero_gradient, 2), (undefined_gradient, None)]
)
def test_gradients_that_say_nothing_break_nothing(norm, breaks, num_targets):
    x = np.zeros((3, 4), "float32")
    x[1:, 0] = 0.3
    x[2] += 0.1
    attack = FAB(norm=norm, steps=6, restarts=2, num_targets=num_targets, seed=0)
    result = attack.run(Broken(breaks), x, [1, 1, 1], from_logits=True, batch_size=4, verbose=0)
    assert np.isfinite(result.x_adv).all()
    total = result.x_adv.sum(axis=1)
    np.testing.assert_array_equal(total > 0.5, result.success)
    if breaks is undefined_gradient:
        # One coordinate has no gradient in the second input, and all have one in the third.
        assert result.success[2]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_step_is_that_of_algorithm_1(norm):
    """One step against the paper's, its projections found by sorting what the box allows."""
    rng = np.random.default_rng(4)
    x, iterate, normal = rng.random((4, 6)), rng.random((4, 6)), rng.normal(size=(4, 6))
    wrong = np.array([True, False, True, False])
    lead = np.where(wrong, 0.05, -0.2)
    state = {
        "x_adv": x,
        "iterate": iterate,
        "distance": np.array([np.inf, np.inf, 1e-3, 0.2]),
        "margin": np.zeros(4),
    }
    after = boundary_step(state, x, wrong, lead, lead, normal, (0.0, 1.0), norm, 0.1, 1.05, 0.9)
    after = {name: ops.convert_to_numpy(value) for name, value in after.items()}
    moved = np.linalg.norm(iterate - x, ORDERS[norm], axis=1)
    np.testing.assert_allclose(after["distance"], [moved[0], np.inf, 1e-3, 0.2])
    np.testing.assert_array_equal(after["x_adv"], [iterate[0], iterate[1], x[2], x[3]])
    for i in range(4):
        back = x[i] + 0.9 * (iterate[i] - x[i]) if wrong[i] else iterate[i]
        # The hyperplane of the linearization at the iterate itself.
        gap = {
            name: -(lead[i] + normal[i] @ (point - iterate[i]))
            for name, point in (("back", back), ("origin", x[i]))
        }
        ways = [
            slow_projection(point, normal[i], gap[name], norm)
            for name, point in (("back", back), ("origin", x[i]))
        ]
        sizes = [np.linalg.norm(way, ORDERS[norm]) for way in ways]
        alpha = min(sizes[0] / sum(sizes), 0.1)
        expected = (1 - alpha) * (back + 1.05 * ways[0]) + alpha * (x[i] + 1.05 * ways[1])
        np.testing.assert_allclose(after["iterate"][i], np.clip(expected, 0, 1), atol=1e-9)


def slow_projection(point, normal, gap, norm):
    """The shortest way from a point to <normal, d> = gap inside the unit box."""
    room = np.where(normal * gap > 0, 1 - point, point)
    weights = np.abs(normal)
    if norm == "l1":
        way, left = np.zeros(len(point)), abs(gap)
        for i in np.argsort(-weights):
            way[i] = min(room[i], left / weights[i])
            left -= way[i] * weights[i]
    else:
        speed = weights if norm == "l2" else np.ones(len(point))
        low, high = 0.0, 1e6
        for _ in range(200):
            middle = (low + high) / 2
            reached = weights @ np.minimum(middle * speed, room) >= abs(gap)
            low, high = (low, middle) if reached else (middle, high)
        way = np.minimum(high * speed, room)
    return np.sign(gap * normal) * way


def test_one_trace_serves_all_radii():
    rng = np.random.default_rng(3)
    model = CountingModel(dense(rng.normal(size=(6, 4)), np.zeros(4)))
    x = rng.random((9, 6)).astype("float32")
    y = ops.convert_to_numpy(ops.argmax(model(x), axis=1))

    def sweep(epsilons):
        for epsilon in epsilons:
            attack = FAB(epsilon, steps=30, num_targets=2)
            attack.run(model, x, y, batch_size=4, from_logits=True, verbose=0)

    sweep([None, 1e-3])
    traced = model.calls
    sweep([1e-4, None, 1.0])
    assert model.calls == traced


def test_double_precision_is_kept():
    model = dense(np.array([[0.0, 3.0], [0.0, 4.0]]), [0.0, -4.5])
    result = FAB(norm="l2", steps=20).run(model, np.full((1, 2), 0.5), [0], verbose=0)
    assert result.x_adv.dtype == "float64"
    np.testing.assert_allclose(result.distance, 0.2, rtol=2e-3)


def test_it_is_no_attack_to_train_on():
    model = dense(np.eye(2), [0.0, 0.0])
    with pytest.raises(InputError, match="searches over whole arrays"):
        FAB().perturb(model, ops.ones((1, 2)), [0])


def test_the_arguments_rebuild_it():
    attack = FAB(0.1, norm="l2", steps=7, restarts=2, num_targets=3, beta=0.8, seed=1)
    config = attack.get_config()
    assert json.loads(json.dumps(config)) == config
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(attack))
    assert type(revived) is FAB
    assert revived.get_config() == config
    assert FAB.from_config(FAB().get_config()).epsilon is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 1},
        {"restarts": 0},
        {"num_targets": 0},
        {"alpha_max": 1.5},
        {"eta": 0.9},
        {"beta": 0.0},
        {"norm": "l0"},
        {"epsilon": -1.0},
    ],
)
def test_what_cannot_be_used_is_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        FAB(**wrong)
