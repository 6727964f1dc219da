"""Clipped sums are exact for convolutions of every kind, adapted layers, tables and wrappers."""

import keras
import numpy as np
import pytest
from harness_clipping import SIZE, check, normal, randomized, sequential
from keras import layers, ops

from keras_secure.privacy.rules import rule_for

TOKENS = np.array(
    [[0, 1, 2, 3, 4, 0, 1], [1] * 7, [0] * 7, [4, 4, 4, 0, 0, 0, 0], [2, 2, 1, 1, 0, 3, 3]]
)


def adapted(*arguments, **options):
    """A model of layers with LoRA adapters of rank 2, none of them zero."""
    model = sequential(*arguments, **options)
    for layer in model.layers:
        layer.enable_lora(2)
    return randomized(model)


CONVOLUTIONS = {
    "conv1d_transpose": (
        (6, 3),
        lambda: [layers.Conv1DTranspose(2, 3, 2, padding="same", activation="tanh")],
    ),
    "conv2d_transpose": ((4, 3, 2), lambda: [layers.Conv2DTranspose(3, (3, 2), 2)]),
    "conv2d_transpose_twice": (
        (3, 3, 2),
        lambda: [
            layers.Conv2DTranspose(3, 3, 2, padding="same", activation="relu"),
            layers.Conv2DTranspose(1, 2, use_bias=False),
        ],
    ),
    "conv2d_transpose_output_padding": (
        (4, 3, 2),
        lambda: [layers.Conv2DTranspose(3, 3, 2, padding="same", output_padding=1)],
    ),
    "conv2d_transpose_valid_output_padding": (
        (4, 3, 2),
        lambda: [layers.Conv2DTranspose(3, 3, 2, output_padding=1)],
    ),
    "conv3d_transpose": ((2, 3, 2, 2), lambda: [layers.Conv3DTranspose(3, 2, 2)]),
    "depthwise1d": (
        (8, 3),
        lambda: [layers.DepthwiseConv1D(3, 2, "same", depth_multiplier=2, activation="tanh")],
    ),
    "depthwise2d": ((6, 5, 3), lambda: [layers.DepthwiseConv2D(3, depth_multiplier=2)]),
    "depthwise2d_same": ((6, 5, 3), lambda: [layers.DepthwiseConv2D(3, 2, "same")]),
    "depthwise2d_dilation": (
        (8, 7, 3),
        lambda: [layers.DepthwiseConv2D((3, 2), dilation_rate=2, padding="same")],
    ),
    "separable1d": (
        (8, 3),
        lambda: [layers.SeparableConv1D(4, 3, 2, "same", depth_multiplier=2, activation="tanh")],
    ),
    "separable2d": (
        (6, 6, 3),
        lambda: [
            layers.SeparableConv2D(4, 3, 2, activation="relu"),
            layers.SeparableConv2D(2, 2, use_bias=False),
        ],
    ),
    "separable2d_dilation": ((7, 7, 2), lambda: [layers.SeparableConv2D(3, 3, dilation_rate=2)]),
    "prelu": ((6,), lambda: [layers.Dense(4), layers.PReLU()]),
    "prelu_shared_axes": ((4, 3, 2), lambda: [layers.PReLU(shared_axes=[1, 2])]),
    "prelu_as_activation": ((4,), lambda: [layers.Dense(4, activation=layers.PReLU())]),
}

ADAPTED = {
    "dense": ((4, 5), lambda: [layers.Dense(4, "tanh"), layers.Dense(3, use_bias=False)], None),
    "einsum": (
        (4, 6),
        lambda: [
            layers.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de"),
            layers.EinsumDense("abde,def->abf", output_shape=(None, 5), bias_axes="f"),
        ],
        None,
    ),
    "conv2d": ((6, 6, 2), lambda: [layers.Conv2D(4, 3, 2, "same"), layers.Conv2D(3, 2)], None),
    "conv1d_causal": ((6, 2), lambda: [layers.Conv1D(4, 3, padding="causal")], None),
    "embedding": ((7,), lambda: [layers.Embedding(5, 3), layers.Dense(2)], "int32"),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(name):
    shape, parts = CONVOLUTIONS[name]
    check(randomized(sequential(shape, *parts())))


@pytest.mark.parametrize("name", ADAPTED)
def test_adapted_layer(name):
    shape, parts, dtype = ADAPTED[name]
    model = adapted(shape, *parts(), dtype=dtype)
    assert any("lora" in v.path for v in model.trainable_variables)
    assert not any(v.path.endswith("/kernel") for v in model.trainable_variables)
    check(model, TOKENS if dtype else None)


def test_adapted_layer_with_its_kernel_thawed():
    model = adapted((4, 5), layers.Dense(4))
    model.layers[0]._kernel.trainable = True
    assert len(model.trainable_variables) == 4
    check(model)


def test_adapter_over_another_axis_takes_the_fallback():
    # The kernel's last axis is one of the inputs.
    model = adapted((4, 6), layers.EinsumDense("abc,dc->abd", output_shape=(None, 2)))
    check(model, fallback=[layers.EinsumDense])


def test_layers_used_more_than_once():
    inputs = keras.Input((4, 4, 2))
    depthwise = layers.DepthwiseConv2D(3, padding="same", activation="tanh")
    separable = layers.SeparableConv2D(2, 2, padding="same", activation="tanh")
    transpose = layers.Conv2DTranspose(2, 2, padding="same")
    slopes = layers.PReLU(shared_axes=[1, 2])
    hidden = inputs
    for _ in range(2):
        hidden = slopes(transpose(separable(depthwise(hidden))))
    check(randomized(keras.Model(inputs, hidden)))


def test_layer_used_with_different_shapes():
    dense, one, two = layers.Dense(3, "tanh"), keras.Input((4,)), keras.Input((2, 4))
    joined = layers.Add()([dense(one), layers.GlobalAveragePooling1D()(dense(two))])
    check(keras.Model([one, two], joined), [normal(SIZE, 4), normal(SIZE, 2, 4)])


def language_model(**options):
    tokens = keras.Input((7,), dtype="int32")
    table = layers.ReversibleEmbedding(5, 3, **options)
    outputs = table(layers.Dense(3, "tanh")(table(tokens)), reverse=True)
    return randomized(keras.Model(tokens, outputs))


@pytest.mark.skipif(not hasattr(layers, "ReversibleEmbedding"), reason="needs a newer Keras")
@pytest.mark.parametrize(
    "options", [{}, {"tie_weights": False}, {"logit_soft_cap": 2.0}, {"mask_zero": True}]
)
def test_embedding_that_projects_back(options):
    check(language_model(**options), TOKENS, modes=("eager", "jit") if not options else ("eager",))


@pytest.mark.skipif(not hasattr(layers, "ReversibleEmbedding"), reason="needs a newer Keras")
def test_embedding_that_projects_back_only():
    inputs = keras.Input((4, 3))
    model = keras.Model(inputs, layers.ReversibleEmbedding(5, 3)(inputs, reverse=True))
    check(model)


@pytest.mark.skipif(not hasattr(layers, "ReversibleEmbedding"), reason="needs a newer Keras")
def test_tied_table_whose_parts_cancel_is_not_underestimated():
    layer = layers.ReversibleEmbedding(3, 2)
    layer.build()
    # Looking up row 1 with gradient -g, and projecting with gradient 1 at that row from g.
    hidden = normal(2, 1, 2)
    logits = np.zeros((2, 1, 3), "float32")
    logits[:, :, 1] = 1.0
    calls = [
        ({"tokens": ops.ones((2, 1), "int32")}, ops.convert_to_tensor(-hidden * (1 + 1e-5))),
        ({"hidden": ops.convert_to_tensor(hidden), "outputs": logits}, logits),
    ]
    ((_, found),) = rule_for(layer)(layer, calls)
    true = np.sum((1e-5 * hidden.astype("float64")) ** 2, axis=(1, 2))
    assert np.all(np.asarray(found.squared_norms()) >= true)


WRAPPED = {
    "dense": ((4, 3), lambda: layers.TimeDistributed(layers.Dense(3, "tanh"))),
    "conv2d": ((3, 5, 5, 2), lambda: layers.TimeDistributed(layers.Conv2D(3, 2))),
    "model": (
        (3, 4),
        lambda: layers.TimeDistributed(sequential((4,), layers.Dense(3), layers.Dense(2))),
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_time_distributed(name):
    shape, wrapped = WRAPPED[name]
    check(sequential(shape, wrapped(), layers.Dense(2)))


@pytest.mark.parametrize(
    "options",
    [{"dropout": 0.4}, {"flash_attention": False, "use_bias": False}],
    ids=["dropout", "no_bias"],
)
@pytest.mark.parametrize("kind", ["multi_head", "grouped_query"])
def test_attention_layers(kind, options):
    inputs = keras.Input((5, 4))
    if kind == "multi_head":
        attention = layers.MultiHeadAttention(2, 3, value_dim=2, **options)
    else:
        attention = layers.GroupQueryAttention(3, 4, 2, **options)
    mask = np.tril(np.ones((5, 5), bool))[None]
    hidden = attention(inputs, inputs, attention_mask=mask)
    hidden = attention(hidden, inputs, use_causal_mask=True)
    check(keras.Model(inputs, hidden), training=True)
