"""Attacks that look for the smallest distance, against what is known of linear models."""

import json

import keras
import numpy as np
import pytest
from harness_attacks import ORDERS, CountingModel, distance, linear_model
from keras import ops

from keras_secure.attacks import CarliniWagnerL2, DeepFool, ElasticNet, HopSkipJump
from keras_secure.errors import InputError

SHORT = {
    "binary_search_steps": 6,
    "max_iterations": 100,
    "initial_const": 0.3,
    "abort_early": False,
}
# (attack, how far above the exact distance it may end at the median, and at worst)
ATTACKS = {
    "cw": (CarliniWagnerL2(**SHORT, learning_rate=0.02), 1.02, 1.2),
    "deepfool": (DeepFool(), 1.0202, 1.021),
    "deepfool_linf": (DeepFool(norm="linf"), 1.0202, 1.021),
    "ead": (ElasticNet(**SHORT, decision_rule="L1", beta=0.01), 1.05, 1.3),
    "ead_en": (ElasticNet(**SHORT, beta=0.01, accelerated=False), np.inf, np.inf),
    "hsj": (HopSkipJump(steps=10, initial_evaluations=50, seed=0), 1.06, 1.2),
    "hsj_linf": (HopSkipJump(norm="linf", steps=10, initial_evaluations=50, seed=0), 1.02, 1.2),
}
parametrized = pytest.mark.parametrize("name", ATTACKS)


def linear(classes=3, size=6, seed=0):
    """A linear classifier, inputs well inside the box, and their classes."""
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(size, 1 if classes == 2 else classes)).astype("float32")
    model = keras.Sequential([keras.Input((size,)), keras.layers.Dense(kernel.shape[1])])
    x = (0.5 + 0.05 * rng.normal(size=(30, size))).astype("float32")
    bias = -np.median(x @ kernel, axis=0)
    model.set_weights([kernel, bias])
    return model, x, kernel, bias


def answers(model, x):
    logits = np.asarray(model(x))
    return (logits[:, 0] > 0).astype(int) if logits.shape[1] == 1 else logits.argmax(axis=1)


def exact_distances(x, y, kernel, bias, norm, margin=0.0):
    """The smallest distances at which a linear model errs, by Hoelder, one loop per example."""
    if kernel.shape[1] == 1:
        kernel = np.concatenate([np.zeros_like(kernel), kernel], axis=1)
        bias = np.array([0.0, bias[0]])
    kernel = kernel.astype("float64")
    dual = {"l2": 2, "linf": 1, "l1": np.inf}[norm]
    found = []
    for row, label in zip(x.astype("float64"), y, strict=True):
        logits = row @ kernel + bias
        ways = [
            (logits[label] - logits[other] + margin)
            / np.linalg.norm(kernel[:, label] - kernel[:, other], dual)
            for other in range(kernel.shape[1])
            if other != label
        ]
        found.append(min(ways))
    return np.array(found)


@parametrized
@pytest.mark.parametrize("classes", [2, 3])
def test_a_linear_model_is_left_by_the_shortest_way(name, classes):
    attack, median, worst = ATTACKS[name]
    model, x, kernel, bias = linear(classes)
    y = answers(model, x)
    result = attack.run(model, x, y, verbose=0)
    assert result.success.all()
    assert (answers(model, result.x_adv) != y).all()
    np.testing.assert_array_equal(result.distance, distance(result.x_adv, x, attack.norm))
    exact = exact_distances(x, y, kernel, bias, attack.norm)
    # Rounding of float32 decides what is beyond the boundary.
    assert (result.distance >= exact * (1 - 1e-5) - 1e-6).all()
    far = exact > 0.01  # an absolute step is not told apart from the boundary below
    ratio = result.distance[far] / exact[far]
    assert np.median(ratio) <= median
    # With several classes around, a walk along the boundary of one may stay there.
    assert ratio.max() <= worst or (classes > 2 and isinstance(attack, HopSkipJump))


@pytest.mark.parametrize("name", ["cw", "deepfool", "ead", "hsj_linf"])
def test_within_a_radius_it_succeeds_where_it_can(name):
    attack, _, _ = ATTACKS[name]
    model, x, kernel, bias = linear(classes=2)
    y = answers(model, x)
    exact = exact_distances(x, y, kernel, bias, attack.norm)
    epsilon = float(np.median(exact))
    result = attack.run(model, x, y, epsilon=epsilon, verbose=0)
    assert (result.distance <= epsilon * (1 + 1e-6)).all()
    np.testing.assert_array_equal(result.success, answers(model, result.x_adv) != y)
    assert not result.success[exact > epsilon * (1 + 1e-5)].any()
    assert result.success[exact < epsilon / 1.2].all()
    # Work on an example stops as soon as it is done.
    free = attack.run(model, x, y, verbose=0)
    near = exact < epsilon / 2
    assert result.queries[near].sum() <= free.queries[near].sum()


@pytest.mark.parametrize("name", ["cw", "deepfool_linf", "ead_en", "hsj"])
def test_labels_already_wrong_and_values_on_the_border(name):
    attack, _, _ = ATTACKS[name]
    model, x, _, _ = linear()
    wrong = (answers(model, x) + 1) % 3
    result = attack.run(model, x, wrong, verbose=0)
    assert result.success.all()
    np.testing.assert_array_equal(result.x_adv, x)
    assert not result.distance.any()
    # Values on the border, where the tanh and the clipping have their ends.
    border = np.round(x).astype("float32")
    result = attack.run(model, border, answers(model, border), verbose=0)
    assert np.isfinite(result.x_adv).all()
    assert result.x_adv.min() >= 0
    assert result.x_adv.max() <= 1


@parametrized
def test_it_serializes_and_trains_nothing(name):
    attack, _, _ = ATTACKS[name]
    config = attack.get_config()
    assert json.loads(json.dumps(config)) == config
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(attack))
    assert type(revived) is type(attack)
    assert revived.get_config() == config
    model, x, _, _ = linear()
    with pytest.raises(InputError, match="nothing to train on"):
        attack.perturb(model, x, answers(model, x))
    with pytest.raises(InputError, match="None for no limit"):
        type(attack)(epsilon=-1)


@pytest.mark.parametrize("name", ["cw", "ead_en", "hsj"])
def test_an_example_does_not_depend_on_its_batch(name):
    attack, _, _ = ATTACKS[name]
    model, x, _, _ = linear()
    y = answers(model, x)
    together = attack.run(model, x, y, verbose=0)
    strangers = np.concatenate([x[:2], x[10:] ** 2])
    others = attack.run(model, strangers, answers(model, strangers), verbose=0)
    np.testing.assert_allclose(others.x_adv[:2], together.x_adv[:2], atol=1e-5)


@pytest.mark.parametrize("name", ["deepfool_linf", "hsj"])
def test_rounding_to_half_precision_does_not_undo_what_was_found(name):
    attack, _, _ = ATTACKS[name]
    model, x, _, _ = linear()
    half = x.astype("float16")
    y = answers(model, half)
    result = attack.run(model, half, y, verbose=0)
    assert result.x_adv.dtype == half.dtype
    assert result.success.all()
    assert (answers(model, result.x_adv) != y).all()


@pytest.mark.parametrize("name", ["cw", "deepfool"])
def test_a_sweep_traces_once(name):
    attack, _, _ = ATTACKS[name]
    inner, x, _, _ = linear()
    model = CountingModel(inner)
    y = answers(model, x)
    for epsilon in (0.0, 0.01, None):
        attack.run(model, x, y, batch_size=16, epsilon=epsilon, from_logits=True, verbose=0)
    traced = model.calls
    for epsilon in (0.02, 0.03, None):
        attack.run(model, x, y, batch_size=16, epsilon=epsilon, from_logits=True, verbose=0)
    # Another number of examples left may meet one of the two smaller batches for the first time.
    assert model.calls <= 2 * traced


@pytest.mark.parametrize("name", ["cw", "ead", "hsj"])
def test_targets_are_reached(name):
    attack, _, _ = ATTACKS[name]
    model, x, kernel, bias = linear()
    config = {**attack.get_config(), "targeted": True}
    targets = (answers(model, x) + 1) % 3
    result = type(attack)(**config).run(model, x, targets, verbose=0)
    reached = answers(model, result.x_adv) == targets
    np.testing.assert_array_equal(result.success, reached)
    assert reached.mean() > 0.9
    untargeted = exact_distances(x, answers(model, x), kernel, bias, attack.norm)
    assert (result.distance[reached] >= untargeted[reached] * (1 - 1e-5) - 1e-6).all()


@pytest.mark.parametrize(
    "attack",
    [CarliniWagnerL2(**SHORT, confidence=0.2), ElasticNet(**SHORT, confidence=0.2)],
    ids=["cw", "ead"],
)
def test_confidence_is_a_margin_of_logits(attack):
    model, x, kernel, bias = linear()
    y = answers(model, x)
    result = attack.run(model, x, y, verbose=0)
    logits = np.asarray(model(result.x_adv))
    own = logits[np.arange(len(y)), y]
    assert result.success.all()
    assert (logits.max(axis=1) - own >= 0.2 - 1e-4).all()
    if attack.norm == "l2":
        exact = exact_distances(x, y, kernel, bias, "l2", margin=0.2)
        assert (result.distance >= exact * (1 - 1e-4)).all()
        assert np.median(result.distance / exact) < 1.05


def slow_carlini_wagner(model, x, label, *, trials, iterations, rate, const):
    """The attack on one example, in NumPy float64 with the linear model's own gradient."""
    kernel, bias = (np.asarray(w, "float64") for w in model.get_weights())
    low, high, best = 0.0, np.inf, np.inf
    for _ in range(trials):
        w = np.arctanh(0.999999 * (2 * x - 1))
        mean, square, succeeded = np.zeros_like(w), np.zeros_like(w), False
        for count in range(1, iterations + 1):
            point = (np.tanh(w) + 1) / 2
            logits = point @ kernel + bias
            others = np.delete(np.arange(len(logits)), label)
            other = others[logits[others].argmax()]
            if logits[other] > logits[label]:
                succeeded = True
                best = min(best, np.linalg.norm(point - x))
            gradient = 2 * (point - x)
            if logits[label] > logits[other]:
                gradient = gradient + const * (kernel[:, label] - kernel[:, other])
            gradient = gradient * (1 - np.tanh(w) ** 2) / 2
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            step = mean / (1 - 0.9**count) / (np.sqrt(square / (1 - 0.999**count)) + 1e-8)
            w = w - rate * step
        if succeeded:
            high = min(high, const)
        else:
            low = max(low, const)
        const = (low + high) / 2 if np.isfinite(high) else 10 * const
    return best


def test_carlini_wagner_takes_the_steps_of_the_paper():
    model, x, _, _ = linear()
    y = answers(model, x)
    arguments = {"binary_search_steps": 4, "max_iterations": 60}
    attack = CarliniWagnerL2(**arguments, learning_rate=0.02, initial_const=0.05, abort_early=False)
    found = attack.run(model, x[:6], y[:6], verbose=0)
    expected = [
        slow_carlini_wagner(model, row, label, trials=4, iterations=60, rate=0.02, const=0.05)
        for row, label in zip(x[:6].astype("float64"), y[:6], strict=True)
    ]
    np.testing.assert_allclose(found.distance, expected, rtol=2e-3)
    # One look at the input, one in each iteration, one at the candidate.
    assert (found.queries == 2 + 4 * 60).all()


def test_giving_up_early_costs_little_and_saves_much():
    model, x, _, _ = linear()
    y = answers(model, x)
    settings = {**SHORT, "learning_rate": 0.02}
    early, late = (
        CarliniWagnerL2(**{**settings, "abort_early": abort}).run(model, x, y, verbose=0)
        for abort in (True, False)
    )
    assert early.queries.mean() < 0.8 * late.queries.mean()
    assert np.median(early.distance) <= 1.05 * np.median(late.distance)


def slow_elastic_net(model, x, label, *, trials, iterations, rate, beta, const, rule):
    """The attack on one example, in NumPy float64 with loops over the values; the l1 distance."""
    kernel, bias = (np.asarray(w, "float64") for w in model.get_weights())
    low, high, best, best_score = 0.0, np.inf, np.inf, np.inf
    for _ in range(trials):
        point, ahead, succeeded = x.copy(), x.copy(), False
        for count in range(iterations):
            logits = ahead @ kernel + bias
            others = np.delete(np.arange(len(logits)), label)
            other = others[logits[others].argmax()]
            gradient = 2 * (ahead - x)
            if logits[label] > logits[other]:
                gradient = gradient + const * (kernel[:, label] - kernel[:, other])
            moved = ahead - rate * np.sqrt(1 - count / iterations) * gradient - x
            after = x.copy()
            for i, value in enumerate(moved):
                if value > beta:
                    after[i] = min(x[i] + value - beta, 1.0)
                elif value < -beta:
                    after[i] = max(x[i] + value + beta, 0.0)
            ahead = after + count / (count + 3) * (after - point)
            point = after
            if (point @ kernel + bias).argmax() != label:
                succeeded = True
                length = np.abs(point - x).sum()
                score = length if rule == "L1" else np.sum((point - x) ** 2) + beta * length
                if score < best_score:
                    best, best_score = length, score
        if succeeded:
            high = min(high, const)
        else:
            low = max(low, const)
        const = (low + high) / 2 if np.isfinite(high) else 10 * const
    return best


@pytest.mark.parametrize("rule", ["EN", "L1"])
def test_elastic_net_takes_the_steps_of_the_paper(rule):
    model, x, _, _ = linear()
    y = answers(model, x)
    attack = ElasticNet(
        beta=0.004,
        decision_rule=rule,
        binary_search_steps=4,
        max_iterations=60,
        step_size=0.02,
        initial_const=0.05,
        abort_early=False,
    )
    found = attack.run(model, x[:6], y[:6], verbose=0)
    settings = {"trials": 4, "iterations": 60, "rate": 0.02, "beta": 0.004, "const": 0.05}
    expected = [
        slow_elastic_net(model, row, label, rule=rule, **settings)
        for row, label in zip(x[:6].astype("float64"), y[:6], strict=True)
    ]
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(found.distance, expected, rtol=2e-3)


def test_elastic_net_is_sparse_where_carlini_wagner_is_not():
    model, x, _, _ = linear(size=20)
    y = answers(model, x)
    sparse = ElasticNet(**SHORT, decision_rule="L1", beta=0.02).run(model, x, y, verbose=0)
    dense = CarliniWagnerL2(**SHORT, learning_rate=0.02).run(model, x, y, verbose=0)
    far = dense.distance > 0.02
    # Values within beta of the input are the input's own bits.
    assert (sparse.x_adv == x)[far].mean() > 0.6
    assert (dense.x_adv == x)[far].mean() < 0.1


def slow_deepfool(model, x, label, *, overshoot, steps, norm):
    """Algorithm 2 on one example, class by class; returns (point, linearizations)."""
    from keras_secure import backend

    def value(x, k):
        return ops.sum(model(ops.expand_dims(x, 0))[:, k] - model(ops.expand_dims(x, 0))[:, label])

    point, moved = x.copy(), np.zeros_like(x)
    for count in range(steps + 1):
        logits = np.asarray(model(point[None]))[0]
        if logits.argmax() != label or count == steps:
            return point, count
        best, way = np.inf, None
        for k in range(len(logits)):
            if k == label:
                continue
            gradient = np.asarray(
                backend.input_gradient(lambda t, k=k: value(t, k), ops.convert_to_tensor(point))[1]
            )
            gap = abs(float(logits[k] - logits[label]))
            if norm == "l2":
                length = np.linalg.norm(gradient)
                candidate = gap / length**2 * gradient
            else:
                length = np.abs(gradient).sum()
                candidate = gap / length * np.sign(gradient)
            if gap / length < best:
                best, way = gap / length, candidate
        moved = moved + way
        point = np.clip(x + (1 + overshoot) * moved, 0, 1).astype("float32")
    raise AssertionError


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_deepfool_takes_the_steps_of_the_paper(norm):
    model = linear_model(weights_scale=6.0)
    x = np.random.default_rng(3).random((5, 5, 5, 1)).astype("float32")
    y = answers(model, x)
    result = DeepFool(norm=norm).run(model, x, y, verbose=0)
    for i in range(len(x)):
        point, count = slow_deepfool(model, x[i], y[i], overshoot=0.02, steps=50, norm=norm)
        # The smallest step that is taken crosses where the paper's creeps.
        assert count - 3 <= result.first_success_step[i] <= count
        np.testing.assert_allclose(result.x_adv[i], point, atol=2e-5)
    assert result.first_success_step.max() >= 2


def test_deepfool_looks_at_the_candidates_it_was_given():
    # Class 1 is second at the input, but its boundary is farther than that of class 2.
    kernel = np.array([[0.0, 0.1, -8.0], [0.0, 0.0, 0.0]], "float32")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.set_weights([kernel, np.array([1.0, 0.9, 4.4], "float32")])
    x, y = np.array([[0.5, 0.5]], "float32"), [0]
    every = DeepFool(num_candidates=None).run(model, x, y, verbose=0)
    two = DeepFool(num_candidates=2).run(model, x, y, verbose=0)
    assert answers(model, every.x_adv)[0] == 2
    assert every.distance[0] == pytest.approx(1.02 * 0.075, rel=1e-3)
    # It goes up, towards class 1, whose boundary is outside the box.
    assert not two.success[0]
    assert every.queries[0] == 1 + 1 + 2 * 2 + 1


class LabelsOnly(keras.Model):
    """Answers with a one-hot row, and refuses to be differentiated."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, inputs):
        logits = self.inner(inputs)
        if logits.shape[1] == 1:
            logits = ops.concatenate([ops.zeros_like(logits), logits], axis=1)
        return ops.one_hot(ops.argmax(logits, axis=1), logits.shape[1])


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_hop_skip_jump_needs_labels_only(norm):
    """The same bits come out, whether it is given logits or nothing but the label."""
    model, x, _, _ = linear()
    y = answers(model, x)
    attack = HopSkipJump(norm=norm, steps=5, initial_evaluations=30, seed=0)
    told_all = attack.run(model, x, y, verbose=0)
    told_labels = attack.run(LabelsOnly(model), x, y, from_logits=True, verbose=0)
    np.testing.assert_array_equal(told_labels.x_adv, told_all.x_adv)
    np.testing.assert_array_equal(told_labels.queries, told_all.queries)


def test_hop_skip_jump_counts_its_queries():
    model, x, _, _ = linear()
    y = answers(model, x)
    attack = HopSkipJump(steps=3, initial_evaluations=20, seed=0)
    result = attack.run(model, x, y, verbose=0)
    # ceil(log2(6^1.5)) halvings on each way back; 20, 28 and 34 points around; one look at the
    # input, one at the candidate; and at least one draw, and one try of each walk.
    least = 4 * 4 + 20 + 28 + 34 + 2 + 1 + 3
    assert (result.queries >= least).all()
    assert (result.queries < least + 20).all()


def test_hop_skip_jump_is_repeatable_and_seeds_differ():
    model, x, _, _ = linear()
    y = answers(model, x)
    runs = [
        HopSkipJump(steps=3, initial_evaluations=20, seed=seed).run(model, x, y, verbose=0)
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(runs[0].x_adv, runs[1].x_adv)
    assert (runs[0].x_adv != runs[2].x_adv).any()


def test_hop_skip_jump_reaches_models_that_call_uniform_noise_by_one_name():
    # Noise of 64 independent values has the mean 0.5; only darker noise is of the other class.
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(1)])
    model.set_weights([np.full((64, 1), 10 / 64, "float32"), np.array([-3.0], "float32")])
    x = np.full((4, 64), 0.6, "float32")
    attack = HopSkipJump(steps=3, initial_evaluations=30, seed=0)
    result = attack.run(model, x, np.ones(4, int), verbose=0)
    assert result.success.all()
    assert np.median(result.distance) < 1.3 * 0.3 * 8


def test_hop_skip_jump_gives_up_where_no_noise_fools():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.set_weights([np.zeros((4, 1)), np.ones(1)])
    x = np.full((3, 4), 0.5, "float32")
    result = HopSkipJump(initial_draws=30, seed=0).run(model, x, np.ones(3, int), verbose=0)
    assert not result.success.any()
    np.testing.assert_array_equal(result.x_adv, x)
    # One look at the input, the noise, the way back, one at the candidate.
    assert (result.queries == 1 + 30 + 1).all()


@pytest.mark.parametrize(
    ("name", "classes", "activation"),
    [("cw", 2, "sigmoid"), ("deepfool", 3, "softmax"), ("hsj", 2, "sigmoid")],
)
def test_any_last_layer_will_do(name, classes, activation):
    attack, _, _ = ATTACKS[name]
    model, x, kernel, bias = linear(classes)
    y = answers(model, x)
    head = keras.layers.Dense(kernel.shape[1], activation=activation)
    probabilities = keras.Sequential([keras.Input((x.shape[1],)), head])
    probabilities.set_weights([kernel, bias])
    exact = exact_distances(x, y, kernel, bias, attack.norm)
    found = attack.run(probabilities, x, y, verbose=0)
    assert found.success.all()
    assert np.median(found.distance / exact) < 1.1


@pytest.mark.parametrize("name", ["cw", "deepfool", "ead", "hsj"])
def test_a_model_without_gradients_or_numbers_harms_nobody(name):
    attack, _, _ = ATTACKS[name]

    class Broken(keras.layers.Layer):
        """NaN below a half, and flat above."""

        def call(self, inputs):
            total = ops.mean(inputs, axis=1, keepdims=True)
            return ops.where(total < 0.45, float("nan"), ops.sign(total - 0.7) * [[-1.0, 1.0]])

    model = keras.Sequential([keras.Input((6,)), Broken()])
    x = np.full((4, 6), 0.6, "float32")
    result = attack.run(model, x, [0, 0, 0, 0], from_logits=True, verbose=0)
    assert np.isfinite(result.x_adv).all()
    assert np.isfinite(result.distance).all()
    assert ORDERS[attack.norm] in (1, 2, np.inf)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CarliniWagnerL2(confidence=-1), "confidence"),
        (lambda: CarliniWagnerL2(binary_search_steps=0), "binary_search_steps"),
        (lambda: CarliniWagnerL2(max_iterations=1.5), "max_iterations"),
        (lambda: CarliniWagnerL2(learning_rate=0), "learning_rate"),
        (lambda: CarliniWagnerL2(initial_const=float("inf")), "initial_const"),
        (lambda: CarliniWagnerL2(abort_early=1), "abort_early"),
        (lambda: DeepFool(norm="l1"), "'l2' and 'linf'"),
        (lambda: DeepFool(steps=0), "steps"),
        (lambda: DeepFool(overshoot=-0.1), "overshoot"),
        (lambda: DeepFool(num_candidates=1), "no other class"),
        (lambda: ElasticNet(beta=-1), "beta"),
        (lambda: ElasticNet(decision_rule="L2"), "EN, L1"),
        (lambda: ElasticNet(accelerated="yes"), "accelerated"),
        (lambda: HopSkipJump(norm="l1"), "'l2' and 'linf'"),
        (lambda: HopSkipJump(max_evaluations=20_000), "10,000"),
        (lambda: HopSkipJump(gamma=0), "gamma"),
        (lambda: HopSkipJump(restarts=0), "restarts"),
    ],
)
def test_arguments_are_checked(make, words):
    with pytest.raises(InputError, match=words):
        make()
