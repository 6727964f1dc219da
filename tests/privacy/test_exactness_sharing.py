"""The fallback takes single variables; layers around, inside and beside them keep their rules."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from harness_clipping import (
    SIZE,
    assert_exact,
    check,
    normal,
    randomized,
    sequential,
    squared_error,
)
from keras import layers, ops

from keras_secure.errors import FallbackWarning
from keras_secure.privacy import Materialized, PerExampleClipping, Rows, register_rule
from keras_secure.privacy.rules import rule_for
from keras_secure.privacy.tied import Tied, joined

TOKENS = np.array(
    [[0, 1, 2, 3, 4, 0, 1], [1] * 7, [0] * 7, [4, 4, 4, 0, 0, 0, 0], [2, 2, 1, 1, 0, 3, 3]]
)


class Gated(layers.Layer):
    """A weight of its own around layers with rules."""

    def __init__(self):
        super().__init__()
        self.dense, self.norm = layers.Dense(3, "tanh"), layers.LayerNormalization()

    def build(self, shape):
        self.gate = self.add_weight(shape=(3,), name="gate")
        self.dense.build(shape)
        self.norm.build((*shape[:-1], 3))

    def call(self, inputs):
        return self.norm(self.dense(inputs)) * self.gate


class ClassToken(layers.Layer):
    """A learnt token before the sequence, as in vision transformers; with dropout inside."""

    def __init__(self):
        super().__init__()
        self.attention = layers.MultiHeadAttention(2, 2, dropout=0.3, seed=3)

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), name="token")
        self.attention.build(shape, shape)

    def call(self, inputs, training=False):
        token = ops.broadcast_to(self.token, (ops.shape(inputs)[0], 1, inputs.shape[-1]))
        sequence = ops.concatenate([token, inputs], axis=1)
        return self.attention(sequence, sequence, training=training)


class TokensAndPositions(layers.Layer):
    """Calls one of its tables on numbers that have no batch axis."""

    def __init__(self):
        super().__init__()
        self.tokens, self.positions = layers.Embedding(5, 3), layers.Embedding(7, 3)

    def build(self, shape):
        self.tokens.build()
        self.positions.build()

    def call(self, tokens):
        return self.tokens(tokens) + self.positions(ops.arange(tokens.shape[1]))


class IntoBatch(layers.Layer):
    """Folds an axis into the batch, where no rule can tell examples apart."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def build(self, shape):
        self.inner.build((None, *shape[2:]))

    def call(self, inputs):
        outputs = self.inner(ops.reshape(inputs, (-1, *inputs.shape[2:])))
        return ops.reshape(outputs, (-1, inputs.shape[1], *outputs.shape[1:]))


class BehindItsBack(layers.Layer):
    """Uses the weights of its embedding behind the embedding's back."""

    def __init__(self):
        super().__init__()
        self.table, self.dense = layers.Embedding(5, 4), layers.Dense(4)

    def build(self, shape):
        self.table.build(shape)
        self.dense.build((None, None, 4))

    def call(self, tokens):
        return ops.matmul(self.dense(self.table(tokens)), ops.transpose(self.table.embeddings))


class OwnModel(keras.Model):
    """A subclassed model with a weight of its own and a frozen layer."""

    def __init__(self):
        super().__init__()
        self.frozen, self.head = layers.Dense(3, "tanh", trainable=False), layers.Dense(2)
        self.scale = self.add_weight(shape=(2,), name="scale")

    def call(self, inputs):
        return self.head(self.frozen(inputs)) * self.scale


def ruled_kinds(engine):
    return {type(layer) for layer in engine.gradients.layers()[0]}


def test_only_the_own_weight_of_a_layer_takes_the_fallback():
    model = randomized(sequential((4, 3), Gated(), layers.Dense(2)))
    engine = PerExampleClipping(model)
    with pytest.warns(FallbackWarning, match=r"covers [^ ]*/gate \(in gated, Gated\)\."):
        ruled, fallback = engine.gradients.layers()
    assert [type(x) for x in ruled] == [layers.Dense, layers.LayerNormalization, layers.Dense]
    assert [type(x) for x in fallback] == [Gated]
    check(model, fallback=[Gated], modes=("eager", "graph"))


def test_rules_inside_the_fallback_with_a_dynamic_batch_size():
    model = randomized(sequential((4, 3), Gated(), layers.Dense(2)))
    engine, x = PerExampleClipping(model), normal(SIZE, 4, 3)

    @tf.function(input_signature=[tf.TensorSpec((None, 4, 3))], autograph=False)
    def norms(x):
        found, _, _ = engine.clipped_sum(
            lambda: (ops.sum(model(x) ** 2, axis=(1, 2)), None),
            l2_norm_clip=0.5,
            batch_size=ops.shape(x)[0],
        )
        return found.norms

    with pytest.warns(FallbackWarning, match="gate"):
        found = norms(x)
    np.testing.assert_allclose(found[:2], norms(x[:2]), rtol=1e-5)
    assert_exact(model, lambda: ops.sum(model(x) ** 2, axis=(1, 2)), SIZE, engine=engine)


@pytest.mark.slow
def test_rules_inside_the_fallback_compile():
    model = randomized(sequential((4, 3), Gated(), layers.Dense(2)))
    check(model, fallback=[Gated], modes=("jit",))


def test_token_of_its_own_and_subclassed_model():
    check(randomized(sequential((4, 3), ClassToken(), layers.Dense(2))), fallback=[ClassToken])
    model, x = OwnModel(), normal(SIZE, 4, 3)
    model(x)
    check(randomized(model), x, fallback=[OwnModel])


def test_layer_without_a_batch_axis_needs_no_fallback():
    model = sequential((7,), TokensAndPositions(), layers.Dense(2), dtype="int32")
    check(randomized(model), TOKENS, modes=("eager", "graph"))


@pytest.mark.parametrize(
    ("shape", "inner"),
    [((3, 2), lambda: layers.Dense(4, "tanh")), ((3, 5, 5, 2), lambda: layers.Conv2D(2, 3))],
)
def test_examples_folded_into_the_batch_axis_need_no_fallback(shape, inner):
    model = randomized(sequential(shape, IntoBatch(inner()), layers.Dense(2)))
    engine, x = PerExampleClipping(model), normal(SIZE, *shape)
    axes = tuple(range(1, len(model.output_shape)))
    assert_exact(model, lambda: ops.sum(model(x) ** 2, axis=axes), SIZE, engine=engine)
    ruled, fallback = engine.gradients.layers()
    assert type(model.layers[0].inner) in {type(layer) for layer in ruled}
    assert not fallback


def test_masks_reach_a_layer_that_runs_by_example():
    class Pooled(layers.Layer):
        def __init__(self):
            super().__init__()
            self.pool, self.supports_masking = layers.GlobalAveragePooling1D(), True

        def build(self, shape):
            self.scale = self.add_weight(shape=(shape[-1],))

        def call(self, inputs):
            return self.pool(inputs) * self.scale

    model = sequential((7,), layers.Embedding(5, 3, mask_zero=True), Pooled(), dtype="int32")
    check(randomized(model), np.maximum(TOKENS, [1, 0, 0, 0, 0, 0, 0]), fallback=[Pooled])


def test_layer_inside_and_outside_of_a_fallback():
    inputs = keras.Input((4, 3))
    gated = Gated()
    check(randomized(keras.Model(inputs, gated.dense(gated(inputs)))), fallback=[Gated])


def test_verify_hands_one_weight_used_behind_its_layers_back_to_the_fallback():
    model = randomized(sequential((7,), BehindItsBack(), layers.Dense(2), dtype="int32"))
    engine = PerExampleClipping(model)

    def losses():
        return squared_error(1.0, model(TOKENS))

    with pytest.raises(AssertionError, match="relative error"):
        assert_exact(model, losses, SIZE, engine=engine)
    with pytest.warns(FallbackWarning, match="embeddings .in behind_its_back, BehindItsBack"):
        engine.gradients.verify(lambda: (losses(), None), batch_size=SIZE)
    assert_exact(model, losses, SIZE, engine=engine)
    assert ruled_kinds(engine) == {layers.Dense}
    assert [type(layer) for layer in engine.gradients.layers()[1]] == [BehindItsBack]


class SharedDense(layers.Dense):
    """A Dense layer with the kernel of another."""

    def __init__(self, other, **options):
        super().__init__(other.units, **options)
        self.other = other

    def build(self, shape):
        self._kernel = self.other._kernel
        self.bias = self.add_weight(shape=(self.units,)) if self.use_bias else None


class SharedEinsum(layers.EinsumDense):
    """An EinsumDense layer with the kernel of a Dense one."""

    def __init__(self, other, *arguments):
        super().__init__(*arguments)
        self.other = other

    def build(self, shape):
        self._kernel, self.bias = self.other._kernel, None

    def compute_output_shape(self, shape):
        return shape


class SharedEmbedding(layers.Embedding):
    """A table of another layer."""

    def __init__(self, other):
        super().__init__(other.input_dim, other.output_dim)
        self.other = other

    def build(self, shape=None):
        self._embeddings = self.other._embeddings


def test_one_kernel_in_two_layers():
    inputs = keras.Input((3, 4))
    dense = layers.Dense(4, "tanh")
    hidden = dense(inputs)
    check(randomized(keras.Model(inputs, SharedDense(dense)(hidden))), modes=("eager", "graph"))
    # Laid out differently, so held in full.
    turned = SharedEinsum(dense, "abc,dc->abd", (3, 4))
    check(randomized(keras.Model(inputs, turned(hidden))), modes=("eager", "graph"))


def test_one_table_in_two_layers():
    inputs = keras.Input((7,), dtype="int32")
    table = layers.Embedding(5, 3)
    outputs = layers.Add()([table(inputs), SharedEmbedding(table)(ops.flip(inputs, axis=1))])
    check(randomized(keras.Model(inputs, outputs)), TOKENS)


def test_joined_contributions_are_the_sum():
    weights = ops.convert_to_tensor(normal(3))
    rows = Rows(ops.convert_to_tensor([[0, 1], [1, 1], [2, 0]]), normal(3, 2, 4), 3)
    full = Materialized(normal(3, 3, 4, seed=1))
    for parts in ([rows, rows], [full, full], [rows, full]):
        expected = sum(part.weighted_sum(weights) for part in parts)
        found = joined(parts)
        found.squared_norms()
        np.testing.assert_allclose(found.weighted_sum(weights), expected, rtol=1e-5, atol=1e-6)
    size = full.squared_norms()
    cancelling = Tied([full, Materialized(-full.factors[0])], -size, size)
    norms = np.asarray(cancelling.squared_norms())
    assert np.all(norms >= 0)
    assert np.all(norms < 1e-3)


def test_rule_of_the_users_own_beside_inner_layers_and_for_some_layers_only():
    class Offset(layers.Layer):
        def __init__(self, name=None):
            super().__init__(name=name)
            self.dense = layers.Dense(3, "tanh")

        def build(self, shape):
            self.offset = self.add_weight(shape=(3,))
            self.dense.build(shape)

        def call(self, inputs):
            return self.dense(inputs) + self.offset

    @register_rule(Offset, covers=lambda layer: layer.name != "without")
    def offset(layer, calls):
        return [(layer.offset, Materialized(sum(ops.sum(dz, axis=1) for _, dz in calls)))]

    check(randomized(sequential((4, 3), Offset(), layers.Dense(2))))
    assert rule_for(Offset(name="without")) is None
