"""Attacks on whole arrays: what is kept, what is spent, what is refused."""

import gc
import weakref

import keras
import numpy as np
import pytest
from harness_attacks import CountingModel, cross_entropy, linear_model
from keras import ops

from keras_secure import attacks, backend
from keras_secure.attacks import FGSM, PGD, AttackResult, GradientAttack
from keras_secure.attacks.graphs import _GRAPHS
from keras_secure.attacks.settle import distances, settle
from keras_secure.errors import InputError


def data(size=10):
    x = np.random.default_rng(1).random((size, 5, 5, 1)).astype("float32")
    return x, linear_model(), ops.convert_to_numpy(ops.argmax(linear_model()(x), axis=1))


class Through(GradientAttack):
    """Walks right through: fools at its second step only, and is back at the end."""

    steps = 4

    def update(self, x_adv, gradient, epsilon):
        return ops.where(x_adv > 0.65, 0.1, x_adv + 0.1)


class Window(keras.Model):
    """Class 1 in a narrow window of the input, class 0 elsewhere."""

    def call(self, x):
        inside = ops.logical_and(x[:, 0] > 0.65, x[:, 0] < 0.75)
        return ops.one_hot(ops.cast(inside, "int32"), 2) + 0 * x[:, :1]


def test_any_fooling_iterate_is_kept_and_work_on_it_stops():
    x = np.array([[0.5, 0.5], [0.1, 0.5], [0.7, 0.5]], "float32")
    attack = Through(1.0)
    result = attack.run(Window(), x, [0, 0, 0], from_logits=True, verbose=0)
    np.testing.assert_array_equal(result.success, [True, False, True])
    np.testing.assert_array_equal(result.first_success_step, [2, -1, 0])
    np.testing.assert_allclose(result.x_adv[0], [0.7, 0.7], atol=1e-6)
    np.testing.assert_array_equal(result.x_adv[2], x[2])
    # One look at the input, one per iterate until it fools, one at what is returned.
    np.testing.assert_array_equal(result.queries, [1 + 3 + 1, 1 + 4 + 1, 1])
    # In training the last iterate counts, fooling or not.
    last = ops.convert_to_numpy(attack.perturb(Window(), x, [0, 0, 0], from_logits=True))
    np.testing.assert_allclose(last[0], [0.2, 0.2], atol=1e-6)


def test_the_loop_ends_when_all_are_fooled():
    class Counting(Window):
        def __init__(self):
            super().__init__()
            self.runs = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x):
            self.runs.assign_add(1.0)
            return super().call(x)

    model = Counting()
    attack = Through(1.0)
    fooled = np.array([[0.6, 0.5], [0.62, 0.5]], "float32")
    attack.run(model, fooled, [0, 0], batch_size=2, from_logits=True, verbose=0)
    before = float(model.runs)
    attack.run(model, fooled, [0, 0], batch_size=2, from_logits=True, verbose=0)
    assert float(model.runs) - before == 1 + 2 + 1
    never = np.array([[0.05, 0.5], [0.6, 0.5]], "float32")
    attack.run(model, never, [0, 0], batch_size=2, from_logits=True, verbose=0)
    assert float(model.runs) - before == 4 + 1 + 4 + 1


def test_restarts_gather_only_what_is_left():
    x, model, y = data(10)
    counting = CountingModel(model)
    attack = PGD(0.15, steps=3, restarts=4, seed=0)
    once = PGD(0.15, steps=3, seed=0).run(counting, x, y, batch_size=4, from_logits=True, verbose=0)
    result = attack.run(counting, x, y, batch_size=4, from_logits=True, verbose=0)
    assert once.success.any()
    assert not result.success.all()
    assert (result.success >= once.success).all()
    np.testing.assert_array_equal(result.queries[once.success], once.queries[once.success])
    assert (result.queries[~result.success] == 1 + 4 * (3 + 1)).all()
    np.testing.assert_array_equal(result.x_adv[once.success], once.x_adv[once.success])


def test_batch_size_and_batch_mates_change_nothing():
    x, model, y = data(7)
    attack = PGD(0.12, steps=4, restarts=2, seed=0)
    small = attack.run(model, x, y, batch_size=3, verbose=0)
    large = attack.run(model, x, y, batch_size=16, verbose=0)
    np.testing.assert_array_equal(small.success, large.success)
    np.testing.assert_allclose(small.x_adv, large.x_adv, atol=1e-5)
    np.testing.assert_allclose(
        attack.run(model, x[:2], y[:2], batch_size=3, verbose=0).x_adv, small.x_adv[:2], atol=1e-5
    )


def test_graphs_are_shared_and_die_with_the_model():
    x, model, y = data(4)
    counting = CountingModel(model)
    options = {"batch_size": 4, "from_logits": True, "verbose": 0}
    attack = PGD(0.1, steps=3, seed=0)
    attack.run(counting, x, y, **options)
    traced = counting.calls
    attack.epsilon = 0.2
    attack.run(counting, x, np.eye(4)[y], **options)
    PGD(0.3, steps=3, restarts=2, seed=5).run(counting, x[:1], y[:1], **options)
    assert counting.calls == traced
    # Another structure is another graph, even on an object that was changed in place.
    attack.steps = 4
    attack.run(counting, x, y, **options)
    assert counting.calls > traced

    reference = weakref.ref(counting)
    size = len(_GRAPHS)
    del counting
    gc.collect()
    assert reference() is None
    assert len(_GRAPHS) < size


def test_a_graph_keeps_the_attack_it_was_made_for():
    x, model, y = data(4)
    attack = PGD(1e-6, steps=3, seed=0)
    attack.run(model, x, y, batch_size=4, verbose=0)
    attack.steps = 1
    # Another dtype traces the same graph again, long after the object was changed.
    twin = PGD(1e-6, steps=3, seed=0)
    result = twin.run(model, x.astype("float64"), y, batch_size=4, verbose=0)
    assert (result.queries == 1 + 3 + 1).all()


def test_what_lowers_the_loss_is_not_returned():
    class Downhill(GradientAttack):
        def update(self, x_adv, gradient, epsilon):
            return x_adv - epsilon * ops.sign(gradient)

    x, model, y = data(4)
    lowered = ops.convert_to_numpy(Downhill(0.01).perturb(model, x, y))
    assert (cross_entropy(model, lowered, y) < cross_entropy(model, x, y)).all()
    result = Downhill(0.01).run(model, x, y, verbose=0)
    np.testing.assert_array_equal(result.x_adv, x)
    assert not result.success.any()
    assert not result.distance.any()


def test_a_step_into_nan_is_no_success():
    class Broken(GradientAttack):
        def update(self, x_adv, gradient, epsilon):
            return x_adv + ops.log(-epsilon)

    x, model, y = data(4)
    for norm in ("linf", "l2", "l1"):
        result = Broken(0.1, norm=norm).run(model, x, y, verbose=0)
        assert not result.success.any()
        np.testing.assert_array_equal(result.x_adv, x)


def test_a_gradient_that_is_not_finite_moves_nothing():
    class Root(keras.Model):
        """At zero, the slope by the first value is infinite."""

        def call(self, x):
            margin = x[:, 1:2] - 1e-9 * ops.sqrt(x[:, :1])
            return ops.concatenate([margin, -margin], axis=1)

    x = np.array([[0.0, 0.5]], "float32")
    for norm in ("linf", "l2", "l1"):
        attack = PGD(0.1, norm=norm, steps=2, random_start=False)
        x_adv = ops.convert_to_numpy(attack.perturb(Root(), x, [0], from_logits=True))
        np.testing.assert_allclose(x_adv, [[0.0, 0.4]], atol=1e-6)


def test_weights_trained_on_are_seen_without_a_new_trace():
    x, model, y = data(4)
    before = FGSM(0.05).run(model, x, y, verbose=0)
    head = model.layers[-1]
    head.set_weights([-weight for weight in head.get_weights()])
    after = FGSM(0.05).run(model, x, y, verbose=0)
    assert not before.success.all()
    assert (after.success & (after.distance == 0)).any()


def test_attacking_many_models_is_no_retracing(caplog):
    x, _, y = data(2)
    for _ in range(8):
        FGSM(0.1).run(linear_model(), x, y, batch_size=2, verbose=0)
    assert "retracing" not in caplog.text


def test_a_jit_compiled_model_is_attacked_by_xla():
    x, model, y = data(4)
    attack = PGD(0.1, steps=3, random_start=False)
    plain = attack.run(model, x, y, verbose=0)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(True), jit_compile=True)
    jitted = attack.run(model, x, y, verbose=0)
    np.testing.assert_allclose(plain.x_adv, jitted.x_adv, atol=1e-5)


def test_float64_is_kept():
    x, model, y = data(4)
    x = np.random.default_rng(2).random(x.shape)
    result = PGD(0.1, steps=3).run(model, x, y, verbose=0)
    assert result.x_adv.dtype == "float64"
    assert (np.abs(result.x_adv - x).max(axis=(1, 2, 3)) <= 0.1 * (1 + 1e-6)).all()


def test_without_a_seed_runs_differ_and_keras_seed_repeats_them():
    x, model, y = data(4)
    attack = PGD(0.01, steps=1, step_size=1e-6)

    def run():
        return attack.run(model, x, y, verbose=0).x_adv

    keras.utils.set_random_seed(1)
    first, second = run(), run()
    assert np.abs(first - second).max() > 1e-3
    keras.utils.set_random_seed(1)
    np.testing.assert_array_equal(run(), first)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_settle_holds_ball_and_box_exactly(norm, dtype):
    rng = np.random.default_rng(0)
    x = rng.random((20, 30)).astype(dtype)
    epsilon = 0.003
    delta = rng.normal(size=x.shape)
    delta *= epsilon * (1 + 1e-5) / distances(delta, np.zeros_like(delta), norm)[:, None]
    settled = settle((x + delta).astype("float64"), x, epsilon, norm, (0.0, 1.0))
    assert settled.dtype == dtype
    assert (distances(settled, x, norm) <= epsilon * (1 + 1e-6)).all()
    assert settled.min() >= 0
    assert settled.max() <= 1
    if dtype != "float16":
        assert (distances(settled, x, norm) >= epsilon * (1 - 1e-3)).all()
    again = settle(settled, x, epsilon, norm, (0.0, 1.0))
    np.testing.assert_array_equal(again, settled)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_settle_mends_only_what_needs_it(norm):
    rng = np.random.default_rng(0)
    x = rng.uniform(0.2, 0.8, (6, 30)).astype("float32")
    x_adv = x + rng.uniform(-1e-3, 1e-3, x.shape).astype("float32")
    epsilon = float(distances(x_adv, x, norm).max())
    broken = x_adv.copy()
    broken[1] += 0.1
    broken[2, 3] = np.nan
    broken[3, 4] = 1.5
    settled = settle(broken, x, epsilon, norm, (0.0, 1.0))
    np.testing.assert_array_equal(settled[[0, 4, 5]], x_adv[[0, 4, 5]])
    assert (distances(settled, x, norm) <= epsilon * (1 + 1e-6)).all()
    assert np.isfinite(settled).all()
    assert settled.max() <= 1


def test_progress_bar_ends_at_its_target(capsys):
    x, model, y = data(4)
    PGD(0.1, steps=2, restarts=2).run(model, x, y, batch_size=2)
    shown = capsys.readouterr().out
    assert "8/8" in shown
    assert "fooled" in shown
    FGSM(0.1).run(model, x, y, verbose=0)
    assert capsys.readouterr().out == ""


def test_an_unbuilt_model_is_built():
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    x = np.full((2, 2, 2), 0.5, "float32")
    assert isinstance(PGD(0.1, steps=2).run(model, x, [0, 1], verbose=0), AttackResult)


def test_perturb_builds_a_model_outside_its_loop():
    model = keras.Sequential([keras.layers.Dense(3)])
    step = backend.compiled(lambda x, y: PGD_3.perturb(model, x, y))
    assert step(np.full((2, 4), 0.5, "float32"), np.array([0, 1])).shape == (2, 4)


PGD_3 = PGD(0.1, steps=3)


def test_perturb_raises_a_loss_of_the_users_own():
    x, model, _ = data(4)
    clean = ops.softmax(model(x))

    def divergence(x_adv):
        return keras.losses.kl_divergence(clean, ops.softmax(model(x_adv, training=False)))

    x_adv = PGD(0.1, steps=5).perturb(model, x, loss=divergence)
    assert (ops.convert_to_numpy(divergence(x_adv)) > 1e-3).all()
    with pytest.raises(InputError, match="labels"):
        PGD_3.perturb(model, x)


def test_perturb_inside_fit():
    x, inner, y = data(16)

    class Adversarial(keras.Model):
        """Trains on what the attack makes of the batch; traced with an unknown batch size."""

        def __init__(self, model, attack):
            super().__init__()
            self.model, self.attack = model, attack
            self.traces = 0

        def call(self, x):
            return self.model(x)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            self.traces += 1
            x_adv = self.attack.perturb(self.model, x, y, from_logits=True)
            return super().compute_loss(x, y, self.model(x_adv, training=True), sample_weight)

    for jit_compile in (False, True):
        trainer = Adversarial(inner, PGD(0.1, norm="l2", steps=2))
        trainer.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True), None)
        trainer.jit_compile = jit_compile
        first = cross_entropy(inner, x, y).mean()
        trainer.fit(x, y, batch_size=8, epochs=2, verbose=0)
        assert trainer.traces == 1
        assert cross_entropy(inner, x, y).mean() != first


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_sequences_of_no_fixed_length(norm):
    model = keras.Sequential(
        [
            keras.Input((None, 4)),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(3),
        ]
    )
    attack = PGD(0.1, norm=norm, steps=2)
    step = backend.compiled(lambda x, y: attack.perturb(model, x, y))
    calls = []
    for length in (5, 7, 9):
        x = np.random.default_rng(length).random((2, length, 4)).astype("float32")
        x_adv = ops.convert_to_numpy(step(x, np.array([0, 1], "int32")))
        assert x_adv.shape == x.shape
        calls.append(np.abs(x_adv - x).max())
    assert min(calls) > 0


def test_no_gradient_flows_through_the_perturbation():
    x, model, y = data(2)

    def loss(inputs):
        return ops.sum(FGSM(0.1).perturb(model, inputs, y))

    _, gradient = backend.input_gradient(loss, x)
    assert not ops.convert_to_numpy(gradient).any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": np.zeros((4, 5, 5, 1), "uint8")}, "uint8.*astype"),
        ({"x": np.zeros((4, 5), "int64")}, "int64.*embedding"),
        ({"x": [np.zeros((4, 5), "float32")] * 2}, "several inputs"),
        ({"x": np.full((4, 5, 5, 1), 2.0, "float32")}, "from 2 to 2.*bounds"),
        ({"x": np.full((4, 5, 5, 1), np.nan, "float32")}, "NaN"),
        ({"x": np.zeros((0, 5, 5, 1), "float32")}, "at least one example"),
        ({"y": [0, 1]}, "4 examples.*2 labels"),
        ({"y": [0, 1, 2, 4]}, "0 to 4.*4 classes"),
        ({"y": [0, 1, 2, -1]}, "-1 to 2"),
        ({"y": None}, "labels y"),
        ({"y": ["cat", "dog", "dog", "cat"]}, "y has type.*Number the classes"),
        ({"y": [0.0, 1.0, np.nan, 2.0]}, "y holds NaN"),
        ({"y": [0.0, 1.5, 1.0, 2.0]}, "no integers"),
        ({"y": np.eye(4)[[0, 1, 2, 3]] * [[1], [0], [1], [1]]}, "1 rows of y are all zero"),
        ({"x": np.full((4, 5, 5, 1), "a")}, "was given a ndarray of <U1"),
        ({"x": np.zeros((4, 5, 5, 1), object)}, "was given a ndarray of object"),
        ({"x": (row for row in np.zeros((4, 5)))}, "was given a generator.*concatenate"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_what_cannot_be_attacked_is_refused(change, words):
    x, model, y = data(4)
    args = {"x": x, "y": y, "epsilon": None, "batch_size": 4} | change
    with pytest.raises(InputError, match=words):
        FGSM(0.1).run(model, args.pop("x"), args.pop("y"), verbose=0, **args)


@pytest.mark.parametrize("use", ["run", "evaluate", "trust_check"])
def test_what_is_no_model_of_one_input_is_refused(use):
    left, right = keras.Input((3,)), keras.Input((3,))
    two = keras.Model([left, right], keras.layers.Dense(2)(left + right))
    x, y, attack = np.full((4, 3), 0.5, "float32"), [0, 1, 0, 1], FGSM(0.1)
    for model, words in ((two, "takes 2 inputs"), (None, "was given None"), (abs, "Lambda")):
        with pytest.raises(InputError, match=words):
            attack.run(model, x, y) if use == "run" else getattr(attacks, use)(model, x, y, attack)


def test_perturb_refuses_integers():
    with pytest.raises(InputError, match="int32"):
        FGSM(0.1).perturb(linear_model(), np.zeros((1, 5, 5, 1), "int32"), [0])
