"""Every rule under dropout, masks, sample weights, tying, freezing, half precision and XLA."""

import keras
import numpy as np
import pytest
from harness_clipping import SIZE, check, normal, randomized
from keras import layers

MASK = np.array([True, False, True, True, False])
WEIGHTS = np.array([0.0, 1.0, 2.0, 0.5, 3.0], "float32")


class Projection(layers.Layer):
    """Looks tokens up and projects back with the same table."""

    def __init__(self):
        super().__init__()
        self.table, self.dense = layers.ReversibleEmbedding(5, 2), layers.Dense(2, "tanh")

    def build(self, shape):
        self.table.build()
        self.dense.build((*shape, 2))

    def call(self, tokens):
        return self.table(self.dense(self.table(tokens)), reverse=True)


class Adapted(layers.Layer):
    """A layer with a LoRA adapter."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def build(self, shape):
        self.inner.build(shape)
        self.inner.enable_lora(2)

    def call(self, inputs):
        return self.inner(inputs)


class SelfAttention(layers.Layer):
    """Attention of a sequence to itself."""

    def __init__(self, attention):
        super().__init__()
        self.attention = attention

    def build(self, shape):
        self.attention.build(shape, shape)

    def call(self, inputs):
        return self.attention(inputs, inputs)


# Name: shape of one input, the layer, dtype of the input.
KINDS = {
    "dense": ((3, 4), lambda: layers.Dense(3, "tanh"), None),
    "einsum_dense": (
        (3, 4),
        lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 2), "tanh", bias_axes="de"),
        None,
    ),
    "conv1d": ((6, 2), lambda: layers.Conv1D(3, 3, activation="tanh", padding="causal"), None),
    "conv2d": ((5, 5, 2), lambda: layers.Conv2D(3, 3, 2, "same", activation="tanh"), None),
    "conv3d": ((3, 3, 4, 1), lambda: layers.Conv3D(2, 2, activation="tanh"), None),
    "conv1d_transpose": ((4, 2), lambda: layers.Conv1DTranspose(3, 3, 2), None),
    "conv2d_transpose": ((3, 3, 2), lambda: layers.Conv2DTranspose(2, 3, 2, "same"), None),
    "conv3d_transpose": ((2, 2, 2, 1), lambda: layers.Conv3DTranspose(2, 2), None),
    "depthwise1d": ((6, 2), lambda: layers.DepthwiseConv1D(3, activation="tanh"), None),
    "depthwise2d": ((5, 4, 2), lambda: layers.DepthwiseConv2D(2, depth_multiplier=2), None),
    "separable1d": ((6, 2), lambda: layers.SeparableConv1D(3, 3, activation="tanh"), None),
    "separable2d": ((5, 4, 2), lambda: layers.SeparableConv2D(3, 2, activation="tanh"), None),
    "embedding": ((6,), lambda: layers.Embedding(5, 3), "int32"),
    "reversible_embedding": ((6,), Projection, "int32"),
    "layer_normalization": ((3, 4), lambda: layers.LayerNormalization(), None),
    "group_normalization": ((3, 3, 4), lambda: layers.GroupNormalization(2), None),
    "rms_normalization": ((3, 4), lambda: layers.RMSNormalization(), None),
    "prelu": ((3, 4), lambda: layers.PReLU(shared_axes=[1]), None),
    "multi_head_attention": (
        (4, 3),
        lambda: SelfAttention(layers.MultiHeadAttention(2, 2)),
        None,
    ),
    "group_query_attention": (
        (4, 3),
        lambda: SelfAttention(layers.GroupQueryAttention(2, 2, 1)),
        None,
    ),
    "simple_rnn": ((4, 2), lambda: layers.SimpleRNN(3), None),
    "lstm": ((4, 2), lambda: layers.LSTM(2, return_sequences=True), None),
    "gru": ((4, 2), lambda: layers.GRU(2), None),
    "bidirectional": ((3, 2), lambda: layers.Bidirectional(layers.GRU(2)), None),
    "time_distributed": ((3, 4), lambda: layers.TimeDistributed(layers.Dense(2, "tanh")), None),
    "adapted_dense": ((3, 4), lambda: Adapted(layers.Dense(3, "tanh")), None),
    "adapted_conv2d": ((5, 5, 2), lambda: Adapted(layers.Conv2D(3, 2)), None),
    "adapted_embedding": ((6,), lambda: Adapted(layers.Embedding(5, 3)), "int32"),
}
if not hasattr(layers, "ReversibleEmbedding"):
    del KINDS["reversible_embedding"]


def examples(name, seed=0):
    shape, _, dtype = KINDS[name]
    if dtype == "int32":
        return np.random.default_rng(seed).integers(0, 5, size=(SIZE, *shape))
    return normal(SIZE, *shape, seed=seed)


def model_of(name, *, uses=1, dropout=0.0):
    """The layer, used on each of several inputs, and a small head."""
    shape, make, dtype = KINDS[name]
    layer = make()
    inputs = [keras.Input(shape, dtype=dtype) for _ in range(uses)]
    outputs = [layer(x) for x in inputs]
    hidden = layers.Add()(outputs) if uses > 1 else outputs[0]
    hidden = layers.Dropout(dropout, seed=3)(hidden) if dropout else hidden
    model = keras.Model(inputs if uses > 1 else inputs[0], layers.Dense(2)(hidden))
    return randomized(model), layer


@pytest.mark.parametrize("name", KINDS)
def test_dropout(name):
    model, _ = model_of(name, dropout=0.4)
    check(model, examples(name), training=True)


@pytest.mark.parametrize("name", KINDS)
def test_padding_mask_and_sample_weights(name):
    model, _ = model_of(name)
    check(model, examples(name), mask=MASK, weights=WEIGHTS)


@pytest.mark.parametrize("name", KINDS)
def test_tying(name):
    model, _ = model_of(name, uses=2)
    check(model, [examples(name), examples(name, seed=1)])


@pytest.mark.parametrize("name", KINDS)
def test_partly_and_wholly_frozen(name):
    model, layer = model_of(name)
    weights = layer.trainable_variables
    for kept in ([weights[0]], [weights[-1]], []):
        for weight in weights:
            weight.trainable = any(weight is other for other in kept)
        check(model, examples(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_each_weight_frozen_alone(name):
    model, layer = model_of(name)
    weights = layer.trainable_variables
    for frozen in weights:
        for weight in weights:
            weight.trainable = weight is not frozen
        check(model, examples(name))


def assert_exact_in_half_precision(name, policy, tolerance):
    """The loop rounds each weight gradient to half precision, and the rules do not."""
    keras.config.set_dtype_policy(policy)
    model, _ = model_of(name)
    check(model, examples(name), tolerance=tolerance, loss_scale=16.0)


@pytest.mark.parametrize("name", KINDS)
def test_mixed_float16(name):
    assert_exact_in_half_precision(name, "mixed_float16", 4e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_mixed_bfloat16(name):
    assert_exact_in_half_precision(name, "mixed_bfloat16", 4e-2)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_graph_and_jit(name):
    model, _ = model_of(name, uses=2, dropout=0.3)
    x = [examples(name), examples(name, seed=1)]
    check(model, x, training=True, mask=MASK, modes=("graph",))
    model, _ = model_of(name, uses=2)
    check(model, x, weights=WEIGHTS, modes=("jit",))
