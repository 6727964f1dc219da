"""The loop over the state of each example, whatever the attack does in it."""

import keras
import numpy as np
import pytest
from harness_attacks import CountingModel, linear_model
from keras import ops

from keras_secure.attacks import PGD, IterativeAttack, classification_logits
from keras_secure.errors import InputError


class Walk(IterativeAttack):
    """A random walk in stages; its candidates are whatever it tried last."""

    steps, stage, looks_first = 30, 8, False

    def begin(self, problem):
        return {
            "tried": ops.zeros_like(problem.labels),
            "x_adv": problem.x,
            "found": problem.fooled(problem.logits(problem.x)),
        }

    def step(self, problem, state, index):
        size = int(np.prod(state["x_adv"].shape[1:]))
        shift = ops.reshape(2 * problem.uniform(index, size) - 1, ops.shape(problem.x))
        x_adv = ops.clip(problem.x + problem.epsilon * shift, 0, 1)
        found = problem.fooled(problem.logits(x_adv))
        return {"tried": state["tried"] + 1, "x_adv": x_adv, "found": found}


def data(size):
    x = np.random.default_rng(1).random((size, 5, 5, 1)).astype("float32")
    model = linear_model(weights_scale=4.0)
    return x, model, ops.convert_to_numpy(ops.argmax(model(x), axis=1))


def test_what_happens_to_an_example_does_not_depend_on_how_examples_are_packed():
    x, model, y = data(45)
    runs = [
        Walk(0.3, seed=3).run(model, x, y, batch_size=size, verbose=0) for size in (64, 16, 7, 1)
    ]
    assert 0.1 < runs[0].success.mean() < 0.9
    for run in runs[1:]:
        np.testing.assert_array_equal(run.success, runs[0].success)
        np.testing.assert_array_equal(run.first_success_step, runs[0].first_success_step)
        np.testing.assert_array_equal(run.queries, runs[0].queries)
        np.testing.assert_allclose(run.x_adv[run.success], runs[0].x_adv[run.success], atol=1e-6)
    other = Walk(0.3, seed=4).run(model, x, y, verbose=0)
    assert (other.first_success_step != runs[0].first_success_step).any()


def test_found_examples_are_dropped_between_stages_and_nothing_is_traced_again():
    x, inner, y = data(64)
    model = CountingModel(inner)
    model(x)
    Walk(0.3, seed=0).run(model, x, y, batch_size=64, from_logits=True, verbose=0)
    traced = model.calls
    result = Walk(0.4, seed=1).run(model, x, y, batch_size=64, from_logits=True, verbose=0)
    # Stages end with other numbers of examples, but in the same three sizes of batches.
    assert model.calls <= traced + 2 * 2
    traced = model.calls
    for epsilon in (0.2, 0.3, 0.4, 0.5):
        Walk(epsilon, seed=2).run(model, x, y, batch_size=64, from_logits=True, verbose=0)
    assert model.calls <= traced + 2
    # One look at the input, one in each step, one at the candidate.
    found = result.success & (result.first_success_step > 0)
    np.testing.assert_array_equal(result.queries[found], 2 + result.first_success_step[found])
    np.testing.assert_array_equal(result.queries[~result.success], 2 + Walk.steps)


def test_one_of_several_outputs_is_attacked():
    inputs = keras.Input((4,))
    digit = keras.layers.Dense(3, activation="softmax", name="digit")(inputs)
    parity = keras.layers.Dense(2, name="parity")(inputs)
    model = keras.Model(inputs, {"digit": digit, "parity": parity})
    listed = keras.Model(inputs, [digit, parity])
    x = np.random.default_rng(0).random((12, 4)).astype("float32")
    for name, number, part in (("digit", 0, digit), ("parity", 1, parity)):
        alone = keras.Model(inputs, part)
        y = ops.convert_to_numpy(ops.argmax(alone(x), axis=1))
        expected = PGD(0.3, seed=0).run(alone, x, y, verbose=0)
        # Whether an output gives logits is read from its own last layer.
        for given, labels in (
            (model, {name: y}),
            (listed, [y if place == number else None for place in (0, 1)]),
        ):
            found = PGD(0.3, seed=0).run(given, x, labels, verbose=0)
            np.testing.assert_array_equal(found.success, expected.success)
            np.testing.assert_allclose(found.x_adv, expected.x_adv, atol=1e-6)
    with pytest.raises(InputError, match="Labels were given for 2 outputs"):
        PGD(0.3).run(model, x, {"digit": y, "parity": y}, verbose=0)
    with pytest.raises(InputError, match="which one classifies was not said"):
        PGD(0.3).run(model, x, y, verbose=0)
    with pytest.raises(InputError, match="no output 'colour'"):
        PGD(0.3).run(model, x, {"colour": y}, verbose=0)


def test_a_compiled_loss_by_output_tells_what_its_output_gives():
    inputs = keras.Input((4,))
    outputs = {
        "first": keras.layers.Lambda(lambda t: t * 1.0, name="first")(inputs),
        "second": keras.layers.Lambda(lambda t: t * 1.0, name="second")(inputs),
    }
    model = keras.Model(inputs, outputs)
    sparse = keras.losses.SparseCategoricalCrossentropy
    model.compile("sgd", loss={"first": sparse(from_logits=True), "second": sparse()})
    x = np.array([[0.1, 0.2, 0.3, 0.4]], "float32")
    np.testing.assert_allclose(classification_logits(model, x, output="first"), x)
    np.testing.assert_allclose(classification_logits(model, x, output="second"), np.log(x))


class Guarded(keras.Model):
    """Two classes by the first value, and an abstention wherever the second exceeds a half."""

    abstains = True

    def call(self, x):
        first, second = x[:, :1], x[:, 1:]
        return ops.concatenate([0.5 - first, first - 0.5, 4.0 * (second - 0.5)], axis=1)


def test_an_abstention_is_no_success_and_attacks_avoid_it():
    x = np.array([[0.4, 0.45], [0.4, 0.9], [0.4, 0.6]], "float32")
    y = [0, 0, 0]
    result = PGD(0.2, steps=20, seed=0).run(Guarded(), x, y, from_logits=True, verbose=0)
    # The second cannot leave the region of abstention; the third has to, and does.
    np.testing.assert_array_equal(result.success, [True, False, True])
    answers = np.asarray(Guarded()(result.x_adv))
    assert (answers[[0, 2]].argmax(axis=1) == 1).all()
    targeted = PGD(0.2, steps=20, seed=0, targeted=True)
    reached = targeted.run(Guarded(), x, [1, 1, 1], from_logits=True, verbose=0)
    np.testing.assert_array_equal(reached.success, [True, False, True])
    # An abstention at the untouched input is safe.
    safe = PGD(0.0).run(Guarded(), x, [1, 1, 1], from_logits=True, verbose=0)
    np.testing.assert_array_equal(safe.success, [True, False, False])
