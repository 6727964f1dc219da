"""The expectation of a randomized model, against passes written out one by one."""

import keras
import numpy as np
import pytest
from harness_attacks import CountingModel
from keras import ops

from keras_secure import backend
from keras_secure.attacks import APGD, PGD, Expectation
from keras_secure.errors import InputError

SAMPLES = 6


def noisy_model():
    """Noise inside that stays on at inference, between two layers that bend it."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6, activation="tanh"),
            AlwaysNoise(),
            keras.layers.Dense(3),
        ]
    )
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    return model


class AlwaysNoise(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.generator = keras.random.SeedGenerator(5)

    def call(self, x):
        return x + 0.7 * keras.random.normal(ops.shape(x), seed=self.generator)


def unrolled(model, x, weights, samples=SAMPLES, **options):
    """The weighted log of the mean softmax, every pass in one graph."""
    passes = [ops.softmax(model(x, **options)) for _ in range(samples)]
    return ops.sum(weights * ops.log(sum(passes) / samples))


@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_value_and_gradient_are_those_of_all_passes_at_once(jit_compile):
    model = noisy_model()
    seed = model.layers[1].generator.state
    x = ops.convert_to_tensor(np.random.default_rng(1).normal(size=(5, 4)).astype("float32"))
    weights = np.random.default_rng(2).normal(size=(5, 3)).astype("float32")
    expected = Expectation(model, SAMPLES)
    expected(x)

    def through(x):
        return backend.input_gradient(lambda x: ops.sum(weights * expected(x)), x)

    def slowly(x):
        return backend.input_gradient(lambda x: unrolled(model, x, weights), x)

    if jit_compile is not None:
        # Compiled by XLA, one seed gives other numbers.
        through = backend.compiled(through, jit_compile=jit_compile)
        slowly = backend.compiled(slowly, jit_compile=jit_compile)
    start = ops.convert_to_numpy(seed)
    value, gradient = through(x)
    after = ops.convert_to_numpy(seed)
    seed.assign(start)
    slow_value, slow_gradient = slowly(x)
    np.testing.assert_allclose(value, slow_value, rtol=1e-4)
    np.testing.assert_allclose(gradient, slow_gradient, rtol=1e-3, atol=1e-5)
    # The next pass goes on where the forward pass ended.
    np.testing.assert_array_equal(after, ops.convert_to_numpy(seed))
    assert (after != start).any()


def test_passes_are_traced_once():
    model = CountingModel(noisy_model())
    x = np.zeros((5, 4), "float32")
    expected = Expectation(model, 50, from_logits=True)
    expected(x)
    model.calls = 0
    step = backend.compiled(
        lambda x: backend.input_gradient(lambda x: ops.sum(expected(x)), x)[1], jit_compile=False
    )
    step(x)
    step(x)
    # Once to go forward and once to come back (a loop may look at its body twice).
    assert model.calls <= 4


def test_no_pass_is_kept_for_the_way_back():
    expected = Expectation(noisy_model(), 50)
    x = np.zeros((5, 4), "float32")
    expected(x)
    step = backend.compiled(
        lambda x: backend.input_gradient(lambda x: ops.sum(expected(x)), x)[1], jit_compile=False
    )
    graph = step.get_concrete_function(x).graph.as_graph_def()
    kinds = {node.op for node in graph.node}
    kinds |= {node.op for function in graph.library.function for node in function.node_def}
    assert any("While" in kind for kind in kinds)
    # Lists are how a loop keeps what each turn made.
    assert not [kind for kind in kinds if "TensorList" in kind]


def test_saturated_passes_keep_their_gradient():
    model = noisy_model()
    model.layers[-1].set_weights([300 * weight for weight in model.layers[-1].get_weights()])
    expected = Expectation(model, SAMPLES)
    x = np.random.default_rng(1).normal(size=(20, 4)).astype("float32")
    lowest = 0.0
    for label in range(3):

        def of_label(x, label=label):
            values = expected(x)[:, label]
            return ops.sum(values), values

        (_, values), gradient = backend.input_gradient(of_label, ops.convert_to_tensor(x))
        gradient, values = ops.convert_to_numpy(gradient), ops.convert_to_numpy(values)
        assert np.isfinite(gradient).all()
        assert (np.abs(gradient[values < -20]).max(axis=1, initial=0) > 1).all()
        lowest = min(lowest, values.min())
    # Beyond what the softmax of float32 can tell from zero.
    assert lowest < -104


@pytest.mark.parametrize("units", [1, 3])
def test_probabilities_and_one_unit(units):
    model = noisy_model() if units == 3 else None
    if model is None:
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, "sigmoid")])
    x = np.random.default_rng(1).normal(size=(5, 4)).astype("float32")
    log_probabilities = ops.convert_to_numpy(Expectation(model, 2)(x))
    assert log_probabilities.shape == (5, max(units, 2))
    np.testing.assert_allclose(np.exp(log_probabilities).sum(axis=1), 1, rtol=1e-5)
    if units == 1:
        positive = ops.convert_to_numpy(model(x))[:, 0]
        np.testing.assert_allclose(np.exp(log_probabilities)[:, 1], positive, rtol=1e-5)


def test_training_mode_leaves_no_trace():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3),
        ]
    )
    x = np.random.default_rng(1).normal(2.0, size=(8, 4)).astype("float32")
    weights = model.get_weights()
    expected = Expectation(model, 5, training=True)
    result = APGD(0.1, steps=3, bounds=(-10, 10), seed=0).run(
        expected, x, np.zeros(8, int), batch_size=8, verbose=0
    )
    assert np.isfinite(result.x_adv).all()
    for before, now in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, now)
    # Dropout was on: two calls differ; without training they do not.
    assert np.abs(expected(x) - expected(x)).max() > 1e-3
    calm = Expectation(model, 5)
    np.testing.assert_array_equal(calm(x), calm(x))


def test_a_random_transform_in_front_is_averaged_over():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    model.set_weights([np.random.default_rng(5).normal(size=(36, 2)), np.zeros(2)])
    x = np.random.default_rng(1).random((4, 6, 6, 1)).astype("float32")
    flip = keras.layers.RandomFlip("horizontal", seed=1)
    average = np.exp(ops.convert_to_numpy(Expectation(model, 200, transform=flip)(x)))
    both = [ops.convert_to_numpy(ops.softmax(model(each))) for each in (x, x[:, :, ::-1])]
    assert np.abs(both[0] - both[1]).max() > 0.05
    np.testing.assert_allclose(average, (both[0] + both[1]) / 2, atol=0.03)


class Camouflage(keras.layers.Layer):
    """Adds noise that hides the gradient of one pass behind a random one."""

    def __init__(self):
        super().__init__()
        self.generator = keras.random.SeedGenerator(3)

    def call(self, x):
        wave = keras.random.normal((1, 16), stddev=60.0, seed=self.generator)
        return x + 0.02 * ops.sin(wave * x)


def test_averaging_finds_what_one_pass_does_not():
    model = keras.Sequential([keras.Input((16,)), Camouflage(), keras.layers.Dense(2)])
    kernel = np.random.default_rng(2).normal(size=(16, 1))
    model.set_weights([np.concatenate([kernel, -kernel], 1), np.zeros(2)])
    rng = np.random.default_rng(4)
    x = rng.uniform(0.3, 0.7, (40, 16)).astype("float32")
    # All examples two thirds of the radius away from the border, on the side of class 0.
    lead = (x @ kernel).ravel() - 0.08 * np.abs(kernel).sum() * 2 / 3
    x -= (lead[:, None] * np.sign(kernel).T / np.abs(kernel).sum()).astype("float32")
    y = np.zeros(40, "int32")

    def robust(attacked):
        result = APGD(0.08, steps=20, seed=0).run(
            attacked, x, y, batch_size=40, from_logits=True, verbose=0
        )
        margins = [np.diff(ops.convert_to_numpy(model(result.x_adv)))[:, 0] for _ in range(30)]
        return (np.mean(margins, axis=0) <= 0).mean()

    averaged, single = robust(Expectation(model, 20)), robust(model)
    assert averaged < 0.2
    assert averaged < single


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"samples": 0}, "samples=0"),
        ({"training": 1}, "training=1"),
        ({"transform": 3}, "transform=3"),
    ],
)
def test_what_cannot_be_used_is_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        Expectation(noisy_model(), **arguments)
    with pytest.raises(InputError, match=r"keras\.Model"):
        Expectation(lambda x: x)


class Flickering(keras.Model):
    """Class 1 where the input and a draw together exceed a half: single draws are no answer."""

    def __init__(self):
        super().__init__()
        self.draws = keras.random.SeedGenerator(1)

    def call(self, x, training=False):
        noise = keras.random.normal(ops.shape(x), stddev=0.2, seed=self.draws)
        return 20.0 * ops.concatenate([0.0 * x, x + noise - 0.5], axis=1)


def test_a_draw_that_was_fooled_by_chance_does_not_end_the_search():
    x = np.full((40, 1), 0.35, "float32")
    # Two draws are noisy: many iterates look fooled at once, few of them are.
    patient, hasty = (Expectation(Flickering(), samples=2, from_logits=True) for _ in range(2))
    hasty.randomized = False
    attack = PGD(0.3, steps=40, step_size=0.01, random_start=False, seed=0)
    all_steps, first_chance = (
        attack.run(model, x, np.zeros(40, int), verbose=0) for model in (patient, hasty)
    )
    walked = all_steps.first_success_step != 0
    np.testing.assert_allclose(all_steps.x_adv[walked & all_steps.success], 0.65, atol=1e-5)
    assert all_steps.success_rate > first_chance.success_rate + 0.2
