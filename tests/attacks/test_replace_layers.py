"""Replacing layers of a model that shares its weights."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_secure.attacks import PGD, replace_layers
from keras_secure.errors import InputError
from keras_secure.layers import BPDA


class Staircase(keras.layers.Layer):
    """Rounds to quarters: no gradient anywhere."""

    def call(self, inputs):
        return ops.round(4.0 * inputs) / 4.0


def sequential():
    return keras.Sequential(
        [keras.Input((4,)), Staircase(name="stairs"), keras.layers.Dense(3, name="head")]
    )


def functional():
    inputs = keras.Input((4,), name="values")
    rounded = Staircase(name="stairs")(inputs)
    joined = keras.layers.Concatenate()([rounded, keras.layers.Dense(2, name="side")(inputs)])
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(joined))


def nested():
    body = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(5), Staircase(name="stairs")], name="body"
    )
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(body(inputs)))


X = np.random.default_rng(0).random((16, 4)).astype("float32")


@pytest.mark.parametrize("build", [sequential, functional, nested])
@pytest.mark.parametrize("key", ["stairs", Staircase])
def test_weights_are_shared_and_answers_the_same(build, key):
    model = build()
    before = np.asarray(model(X))
    opened = replace_layers(model, {key: BPDA})
    np.testing.assert_array_equal(opened(X), before)
    np.testing.assert_array_equal(model(X), before)
    assert opened.get_layer("head") is model.get_layer("head")
    assert {id(v) for v in opened.weights} == {id(v) for v in model.weights}
    model.get_layer("head").bias.assign([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(opened(X), model(X))


@pytest.mark.parametrize("build", [sequential, nested])
def test_an_attack_sees_through(build):
    keras.utils.set_random_seed(3)
    model = build()
    labels = np.argmax(np.asarray(model(X)), axis=1)
    # One step from the input itself, so that the gradient there is all that counts.
    attack = PGD(0.4, steps=8, random_start=False)
    blind = attack.run(model, X, labels, verbose=0)
    seeing = attack.run(replace_layers(model, {"stairs": BPDA}), X, labels, verbose=0)
    assert blind.success_rate == 0
    assert seeing.success_rate > 0.5
    # What it found fools the model as it was.
    answers = np.argmax(np.asarray(model(seeing.x_adv)), axis=1)
    np.testing.assert_array_equal(answers != labels, seeing.success)


def test_a_layer_used_twice_is_replaced_once():
    inputs, stairs = keras.Input((4,)), Staircase(name="stairs")
    outputs = keras.layers.Add()([stairs(inputs), stairs(keras.layers.Rescaling(2.0)(inputs))])
    model = keras.Model(inputs, keras.layers.Dense(3)(outputs))
    made = []
    opened = replace_layers(model, {"stairs": lambda layer: made.append(layer) or BPDA(layer)})
    assert made == [stairs]
    np.testing.assert_array_equal(opened(X), model(X))


def test_a_name_goes_before_a_class_and_a_nested_model_can_be_named():
    model = nested()
    kept = replace_layers(model, {"head": lambda layer: layer, Staircase: BPDA})
    assert isinstance(kept.get_layer("body").layers[-1], BPDA)
    swapped = replace_layers(model, {"body": keras.layers.Dense(5)})
    assert not any(isinstance(layer, keras.Sequential) for layer in swapped.layers)
    untouched = replace_layers(model, {"head": lambda layer: layer})
    assert untouched.get_layer("body") is model.get_layer("body")


def test_how_the_model_was_compiled_stays():
    model = sequential()
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert replace_layers(model, {"stairs": BPDA}).loss.from_logits


def test_arguments_are_checked():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    class OwnCall(keras.Sequential):
        def call(self, inputs, training=None, mask=None):
            return super().call(inputs) + 1.0

    for model in (Subclassed(), OwnCall([keras.Input((4,)), Staircase(name="stairs")])):
        with pytest.raises(InputError, match="Sequential or functional"):
            replace_layers(model, {"stairs": BPDA})
    with pytest.raises(InputError, match="stairs"):
        replace_layers(sequential(), {"stair": BPDA})
    with pytest.raises(InputError, match="Dropout"):
        replace_layers(sequential(), {keras.layers.Dropout: BPDA})
    with pytest.raises(InputError, match="names no layer"):
        replace_layers(sequential(), {int: BPDA})
    with pytest.raises(InputError, match="Expected a keras layer"):
        replace_layers(sequential(), {"stairs": lambda layer: None})
    with pytest.raises(InputError, match="dict"):
        replace_layers(sequential(), [])
