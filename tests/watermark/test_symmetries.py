"""What may be exchanged is what changes no answer: every rule is tried on whole models."""

import keras
import numpy as np
import pytest
from harness_alignment import FAMILIES, dense, difference, randomized, text
from keras import layers
from watermark_attacks import disguise

from keras_secure.errors import InputError
from keras_secure.watermark.symmetries import MAGNITUDE, SIGN, structure_of, walk
from keras_secure.watermark.symmetries.probe import probe


def more_layers():
    """Layers that the families leave out."""
    inputs = keras.Input((6, 6, 4))
    x = layers.Conv2DTranspose(8, 2, activation="tanh")(inputs)
    x = layers.GroupNormalization(2)(x)
    x = layers.EinsumDense("abfc,cd->abfd", (7, 7, 12), bias_axes="d", activation="relu")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Dense(12, "sigmoid")(layers.Dense(6, "relu")(gate))
    x = layers.Multiply()([x, gate])
    x = keras.ops.relu(layers.Maximum()([x, layers.Conv2D(12, 1)(x)]))
    x = layers.Reshape((-1, 12))(x)
    x = layers.TimeDistributed(layers.Dense(10, "elu"))(x)
    x = layers.SimpleRNN(7, return_sequences=True)(layers.AveragePooling1D(5)(x))
    x = layers.Permute((2, 1))(layers.Conv1D(9, 3)(x))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


MODELS = {**FAMILIES, "more_layers": more_layers}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_exchangeable_changes_no_answer(name):
    model = randomized(MODELS[name]())
    plain = disguise(model, seed=1, silent=0, split=0)
    assert plain.count_params() == model.count_params()
    assert difference(model, plain) < 1e-5
    moved = [
        np.abs(one - other).max() > 0.01
        for one, other in zip(model.get_weights(), plain.get_weights(), strict=True)
        if one.ndim > 1
    ]
    assert np.mean(moved) > 0.8
    wider = disguise(model, seed=2)
    assert wider.count_params() > model.count_params()
    assert difference(model, wider) < 1e-5


def test_a_scale_too_many_would_be_noticed(monkeypatch):
    model = randomized(text())
    assert difference(model, disguise(model, seed=1)) < 1e-5
    monkeypatch.setattr(walk, "probe", lambda *_: (frozenset((MAGNITUDE, SIGN)), True))
    assert difference(model, disguise(model, seed=1)) > 1e-3


def test_functions_are_tried_out():
    both, positive, flips, none = {MAGNITUDE, SIGN}, {MAGNITUDE}, {SIGN}, set()
    activations = keras.activations
    for function, freedoms, alone in [
        (activations.linear, both, True),
        (activations.relu, positive, True),
        (activations.leaky_relu, positive, True),
        (activations.relu6, none, True),
        (activations.tanh, flips, True),
        (activations.gelu, none, True),
        (activations.softmax, none, False),
        (lambda x: keras.ops.sin(x), flips, True),
    ]:
        assert probe(function, (None, 6)) == (freedoms, alone)
    image = (None, 4, 4, 6)
    assert probe(layers.MaxPooling2D(), image) == (positive, True)
    assert probe(layers.AveragePooling2D(2), image) == (both, True)
    assert probe(lambda x: x[:, 1], image) == (both, True)
    assert probe(lambda x: keras.ops.flip(x, -1), image) is None
    assert probe(lambda x: x[..., :3], image) is None


def test_a_residual_stream_has_one_order():
    structure = structure_of(text())
    stream, keys, values, hidden, answers = structure.units()
    assert (stream.size, stream.pinned, stream.resizable) == (32, False, False)
    assert (keys.blocks, values.blocks) == (4, 4)
    assert keys.family.root() is values.family.root()
    assert (hidden.size, hidden.resizable) == (64, True)
    assert answers.pinned
    assert not structure.unfollowed
    tables = [step.name for step in structure.steps if "embeddings" in step.name]
    assert len(tables) == 1, "the table of positions was found by its values"


def test_shared_layers_have_one_order_for_both_uses():
    shared = layers.Dense(6, "relu")
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(2)(shared(shared(inputs))))
    # The first use reads the inputs, which cannot be exchanged, by the kernel of the second.
    assert all(units.pinned for units in structure_of(model).units())
    stem = layers.Dense(6, "relu")(inputs)
    model = randomized(keras.Model(inputs, layers.Dense(2)(shared(shared(stem)))))
    hidden, _ = structure_of(model).units()
    assert not hidden.pinned
    assert difference(model, disguise(model, seed=1, silent=0, split=0)) < 1e-5


def test_what_is_not_followed_is_left_in_place():
    @keras.saving.register_keras_serializable("tests")
    class Cumulative(layers.Layer):
        def build(self, shape):
            self.weight = self.add_weight(shape=(shape[-1],))

        def call(self, x):
            return keras.ops.cumsum(x * self.weight, axis=-1)

    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8), Cumulative(name="own"), layers.Dense(2)]
    )
    structure = structure_of(model)
    assert structure.unfollowed == ["own"]
    assert all(units.pinned for units in structure.units())


def test_models_without_a_graph_are_refused():
    with pytest.raises(InputError, match="not built"):
        structure_of(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(InputError, match=r"a keras\.Model can"):
        structure_of(np.zeros(3))


def test_a_wrapper_is_looked_through():
    from keras_secure import SecureModel

    assert len(structure_of(SecureModel(dense())).steps) == 3
