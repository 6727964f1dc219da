"""Clipped sums are those of a slow loop over single examples, for every rule and the fallback."""

import keras
import numpy as np
import pytest
from harness_clipping import SIZE, assert_exact, check, normal, seed_states, sequential
from keras import layers, ops

from keras_secure.errors import FallbackWarning
from keras_secure.privacy import Materialized, OuterProducts, PerExampleClipping, Rows
from keras_secure.privacy.rules import rule_for

EINSUMS = {
    "plain": ((6,), "ab,bc->ac", {"output_shape": 3}),
    "split_heads": ((4, 6), "abc,cde->abde", {"output_shape": (None, 2, 3), "bias_axes": "de"}),
    "join_heads": ((4, 2, 3), "abde,def->abf", {"output_shape": (None, 5), "bias_axes": "f"}),
    "ellipsis": ((4, 3, 6), "...x,xy->...y", {"output_shape": 3, "bias_axes": "y"}),
    "grouped": ((4, 6), "abc,bcd->abd", {"output_shape": (4, 2), "bias_axes": "bd"}),
    "grouped_bias_d": ((4, 6), "abc,bcd->abd", {"output_shape": (4, 2), "bias_axes": "d"}),
    "summed_axis": ((4, 6), "abc,cd->ad", {"output_shape": 2, "bias_axes": "d"}),
    "moved_axes": ((4, 6), "abc,dc->adb", {"output_shape": (2, 4), "bias_axes": "d"}),
}


RULED = {
    "dense": lambda: sequential((6,), layers.Dense(7, "relu"), layers.Dense(3, "softmax")),
    "dense_no_bias": lambda: sequential((6,), layers.Dense(7, "tanh", use_bias=False)),
    "dense_sequence": lambda: sequential((4, 5), layers.Dense(7, "gelu"), layers.Dense(3)),
    "dense_4d": lambda: sequential((2, 3, 4), layers.Dense(5, "relu"), layers.Dense(2)),
    "dense_ghost": lambda: sequential((3, 30), layers.Dense(40, "tanh"), layers.Dense(30)),
    "conv1d": lambda: sequential((9, 2), layers.Conv1D(4, 3, activation="relu")),
    "conv1d_same": lambda: sequential((9, 2), layers.Conv1D(4, 4, 2, padding="same")),
    "conv1d_causal": lambda: sequential(
        (9, 2), layers.Conv1D(4, 3, padding="causal", dilation_rate=2), layers.Conv1D(3, 2)
    ),
    "conv1d_groups": lambda: sequential((9, 4), layers.Conv1D(6, 3, groups=2)),
    "conv2d": lambda: sequential((7, 6, 2), layers.Conv2D(4, 3, activation="relu")),
    "conv2d_same_strides": lambda: sequential(
        (8, 7, 2), layers.Conv2D(4, 3, 2, padding="same", activation="relu"), layers.Conv2D(3, 2)
    ),
    "conv2d_kernel": lambda: sequential((9, 8, 2), layers.Conv2D(4, (4, 5), padding="same")),
    "conv2d_dilation": lambda: sequential(
        (9, 9, 2), layers.Conv2D(3, 3, dilation_rate=2, padding="same"), layers.Conv2D(3, (4, 3))
    ),
    "conv2d_groups": lambda: sequential((6, 6, 4), layers.Conv2D(6, 3, groups=2, use_bias=False)),
    "conv2d_groups_kernel": lambda: sequential((8, 8, 4), layers.Conv2D(6, 4, 2, groups=2)),
    "conv2d_ghost": lambda: sequential((3, 3, 40), layers.Conv2D(30, 3, padding="valid")),
    "conv2d_pointwise": lambda: sequential((4, 4, 3), layers.Conv2D(5, 1, 2)),
    "conv3d": lambda: sequential((4, 5, 6, 2), layers.Conv3D(3, 2, activation="relu")),
    "conv3d_same": lambda: sequential((4, 5, 4, 2), layers.Conv3D(3, 3, 2, padding="same")),
    "layer_norm": lambda: sequential((4, 6), layers.LayerNormalization(), layers.Dense(2)),
    "layer_norm_axes": lambda: sequential((4, 6), layers.LayerNormalization(axis=[1, 2])),
    "layer_norm_first": lambda: sequential((4, 6), layers.LayerNormalization(axis=1)),
    "layer_norm_scale_only": lambda: sequential((6,), layers.LayerNormalization(center=False)),
    "layer_norm_offset_only": lambda: sequential((6,), layers.LayerNormalization(scale=False)),
    "group_norm": lambda: sequential((4, 4, 6), layers.GroupNormalization(2), layers.Conv2D(2, 1)),
    "instance_norm": lambda: sequential((4, 4, 3), layers.GroupNormalization(-1)),
    "rms_norm": lambda: sequential((4, 6), layers.RMSNormalization(), layers.Dense(2)),
    **{
        f"einsum_{name}": lambda shape=shape, equation=equation, options=options: sequential(
            shape, layers.EinsumDense(equation, activation="tanh", **options)
        )
        for name, (shape, equation, options) in EINSUMS.items()
    },
}


@pytest.mark.parametrize("name", RULED)
def test_rule(name):
    check(RULED[name]())


@pytest.mark.parametrize("name", ["dense_sequence", "conv2d_groups", "dense_ghost"])
def test_eager_graph_and_jit(name):
    check(RULED[name](), modes=("eager", "graph", "jit"))


@pytest.mark.slow
@pytest.mark.parametrize("name", RULED)
def test_every_rule_in_every_mode_and_seed(name):
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        model = RULED[name]()
        check(model, normal(SIZE, *model.input_shape[1:], seed=seed), modes=("graph", "jit"))


def token_model(**options):
    return sequential(
        (7,), layers.Embedding(5, 3, **options), layers.Dense(4, "tanh"), dtype="int32"
    )


TOKENS = np.array(
    [[0, 1, 2, 3, 4, 0, 1], [1] * 7, [0] * 7, [4, 4, 4, 0, 0, 0, 0], [2, 2, 1, 1, 0, 3, 3]]
)


@pytest.mark.parametrize("mask_zero", [False, True])
def test_embedding_with_repeated_tokens(mask_zero):
    check(token_model(mask_zero=mask_zero), TOKENS, modes=("eager", "jit"))


def test_mask_zero_reaches_the_layers_behind():
    inputs = keras.Input((7,), dtype="int32")
    hidden = layers.Embedding(5, 4, mask_zero=True)(inputs)
    hidden = layers.MultiHeadAttention(2, 3)(hidden, hidden)
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(hidden)))
    # At least one token each: the mean over nothing is no number.
    check(model, np.maximum(TOKENS, [1, 0, 0, 0, 0, 0, 0]))


def attention_block(dropout=0.0):
    inputs = keras.Input((6, 4))
    hidden = layers.MultiHeadAttention(2, 3, dropout=dropout)(inputs, inputs)
    hidden = layers.LayerNormalization()(layers.Add()([hidden, inputs]))
    return keras.Model(inputs, layers.Dense(2)(hidden))


def test_attention():
    check(attention_block(), modes=("eager", "graph"))


def test_layer_used_more_than_once():
    inputs = keras.Input((4,))
    dense, norm = layers.Dense(4, "tanh"), layers.LayerNormalization()
    model = keras.Model(inputs, norm(dense(norm(dense(dense(inputs))))))
    check(model, modes=("eager", "jit"))


def test_convolution_and_embedding_used_more_than_once():
    inputs = keras.Input((6, 3))
    conv = layers.Conv1D(3, 3, padding="same", activation="tanh")
    check(keras.Model(inputs, conv(conv(inputs))))
    tokens = keras.Input((7,), dtype="int32")
    table = layers.Embedding(5, 3)
    check(keras.Model(tokens, layers.Add()([table(tokens), table(ops.flip(tokens, 1))])), TOKENS)


def test_dropout_draws_the_same_mask_for_norm_and_gradient():
    model = sequential((6,), layers.Dense(8, "relu"), layers.Dropout(0.5, seed=3), layers.Dense(3))
    assert len(seed_states(model)) == 1
    check(model, training=True, modes=("eager", "graph"))
    check(attention_block(dropout=0.4), training=True)
    check(sequential((5, 4), layers.SpatialDropout1D(0.5, seed=1), layers.Dense(3)), training=True)


def test_padding_mask_and_sample_weights():
    mask = np.array([True, False, True, True, False])
    check(RULED["dense_sequence"](), mask=mask, modes=("eager", "graph"))
    check(RULED["conv2d"](), mask=mask, weights=np.array([0.0, 1.0, 2.0, 0.5, 3.0], "float32"))


def test_empty_batch_sums_to_zero():
    model = RULED["dense"]()
    x = normal(SIZE, 6)
    found, _, _ = PerExampleClipping(model).clipped_sum(
        lambda: (ops.sum(model(x) ** 2, axis=-1), None),
        l2_norm_clip=1.0,
        batch_size=SIZE,
        example_mask=ops.zeros(SIZE, "bool"),
    )
    assert all(not np.any(v) for v in found.values)


def test_frozen_and_partially_frozen_layers():
    model = sequential(
        (4, 6), layers.Dense(5, "tanh"), layers.LayerNormalization(), layers.Dense(2)
    )
    model.layers[0].trainable = False
    model.layers[1].gamma.trainable = False
    check(model)
    model = sequential((7, 7, 2), layers.Conv2D(4, 3), layers.Conv2D(3, 2))
    model.layers[0].kernel.trainable = False
    model.layers[1].bias.trainable = False
    check(model)
    model = token_model()
    model.layers[0].trainable = False
    check(model, TOKENS)


def test_nested_models_and_several_inputs_and_outputs():
    inner = RULED["dense"]()
    one, two = keras.Input((6,)), keras.Input((6,))
    joined = layers.Concatenate()([inner(one), inner(two)])
    model = keras.Model([one, two], {"a": layers.Dense(2)(joined), "b": layers.Dense(1)(joined)})
    check(model, [normal(SIZE, 6), normal(SIZE, 6, seed=2)], modes=("eager", "graph"))


def test_unused_layer_counts_as_nothing():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, [layers.Dense(2)(inputs), layers.Dense(3)(inputs)])
    x = normal(SIZE, 4)
    assert_exact(model, lambda: ops.sum(model(x)[0] ** 2, axis=-1), SIZE)


def test_weight_regularizers_stay_outside_the_clip():
    plain = sequential((6,), layers.Dense(3))
    regularized = sequential((6,), layers.Dense(3, kernel_regularizer="l2"))
    regularized.set_weights(plain.get_weights())
    assert check(regularized) <= 1e-5  # the truth of `check` has no penalty in it


@pytest.mark.parametrize(
    ("policy", "tolerance"), [("mixed_float16", 4e-3), ("mixed_bfloat16", 4e-2)]
)
def test_half_precision(policy, tolerance):
    keras.config.set_dtype_policy(policy)
    model = sequential((5, 8), layers.Dense(8, "relu"), layers.LayerNormalization())
    check(model, tolerance=tolerance, loss_scale=128.0, modes=("eager", "graph"))
    check(sequential((6, 6, 2), layers.Conv2D(4, 3)), tolerance=tolerance)
    check(token_model(), TOKENS, tolerance=tolerance)


class OwnWeights(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, inputs):
        return ops.tanh(inputs * self.scale)


class SwappedCall(layers.Dense):
    def call(self, inputs):
        return 2.0 * super().call(inputs)


FALLBACK = {
    "own_weights": (lambda: sequential((4, 3), OwnWeights(), layers.Dense(2)), OwnWeights),
    "overridden_call": (lambda: sequential((4,), SwappedCall(3), layers.Dense(2)), SwappedCall),
    "attention_scale": (
        lambda: _attention(layers.Attention(use_scale=True)),
        layers.Attention,
    ),
    "additive_attention": (
        lambda: _attention(layers.AdditiveAttention()),
        layers.AdditiveAttention,
    ),
}


def _attention(layer):
    inputs = keras.Input((4, 3))
    return keras.Model(inputs, layers.Dense(2)(layer([inputs, inputs])))


@pytest.mark.parametrize("name", FALLBACK)
def test_fallback(name):
    build, kind = FALLBACK[name]
    check(
        build(), fallback=[kind], modes=("eager", "graph") if name == "own_weights" else ("eager",)
    )


@pytest.mark.slow
def test_fallback_of_a_loop_over_convolutions():
    check(sequential((2, 3, 3, 1), layers.ConvLSTM2D(1, 2)), fallback=[layers.ConvLSTM2D])


class OwnDropout(OwnWeights):
    def __init__(self):
        super().__init__()
        self.dropout = layers.Dropout(0.5)

    def call(self, inputs, training=False):
        return self.dropout(super().call(inputs), training=training)


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_dropout_within_the_fallback_differs_by_example_and_step(mode):
    import tensorflow as tf

    model = sequential((40,), OwnDropout())
    engine, x = PerExampleClipping(model), np.ones((SIZE, 40), "float32")

    def losses():
        outputs = model(x, training=True)
        return ops.sum(outputs**2, axis=-1), outputs

    def run():
        found, _, outputs = engine.clipped_sum(losses, l2_norm_clip=1e6, batch_size=SIZE)
        return found.values[0], outputs

    if mode == "graph":
        run = tf.function(run, autograph=False)
    with pytest.warns(FallbackWarning):
        steps = [tuple(np.asarray(v) for v in run()) for _ in range(3)]
    masks = np.concatenate([outputs != 0 for _, outputs in steps])
    assert len({row.tobytes() for row in masks}) == 3 * SIZE
    assert 0.35 < masks.mean() < 0.65
    for gradient, outputs in steps:
        # d(output^2)/d(scale): where dropout kept, 2 * (2 tanh(s)) * 2 * (1 - tanh(s)^2).
        kept = 8 * np.tanh(1) * (1 - np.tanh(1) ** 2)
        np.testing.assert_allclose(gradient, (outputs != 0).sum(axis=0) * kept, rtol=1e-5)


def test_verify_leaves_the_rules_alone_where_they_hold():
    for policy in ("float32", "mixed_float16", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        model = RULED["dense_sequence"]()
        x, engine = normal(3, 4, 5), PerExampleClipping(model)
        engine.gradients.verify(
            lambda model=model, x=x: (ops.sum(ops.cast(model(x), "float32") ** 2, (1, 2)), None),
            batch_size=3,
        )
        assert engine.gradients.layers()[1] == []


def test_dynamic_batch_size():
    import tensorflow as tf

    model = RULED["dense_sequence"]()
    engine = PerExampleClipping(model)

    @tf.function(input_signature=[tf.TensorSpec((None, 4, 5))], autograph=False)
    def norms(x):
        found, _, _ = engine.clipped_sum(
            lambda: (ops.sum(model(x) ** 2, axis=(1, 2)), None),
            l2_norm_clip=0.5,
            batch_size=ops.shape(x)[0],
        )
        return found.norms

    x = normal(SIZE, 4, 5)
    np.testing.assert_allclose(norms(x)[:2], norms(x[:2]), rtol=1e-5)


def test_channels_first_convolution_on_recorded_tensors():
    """Forward passes need a GPU; the rule itself is the same as on transposed tensors."""
    first = layers.Conv2D(4, 3, strides=2, padding="same", data_format="channels_first")
    first.build((None, 2, 7, 6))
    last = layers.Conv2D(4, 3, strides=2, padding="same", data_format="channels_last")
    last.build((None, 7, 6, 2))
    x, dz = normal(SIZE, 7, 6, 2), normal(SIZE, 4, 3, 4)
    swap = (0, 3, 1, 2)
    weights = ops.convert_to_tensor(normal(SIZE))
    found = rule_for(first)(first, [(ops.transpose(x, swap), ops.transpose(dz, swap))])
    truth = rule_for(last)(last, [(ops.convert_to_tensor(x), ops.convert_to_tensor(dz))])
    for (_, got), (_, expected) in zip(found, truth, strict=True):
        np.testing.assert_allclose(got.squared_norms(), expected.squared_norms(), rtol=1e-5)
        np.testing.assert_allclose(
            got.weighted_sum(weights), expected.weighted_sum(weights), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    "shape", [(3, 1, 1, 4, 5), (3, 2, 1, 4, 5), (3, 2, 2, 30, 40), (3, 2, 50, 3, 4)]
)
def test_outer_products_in_both_branches(shape):
    batch, groups, positions, width_in, width_out = shape
    inputs = normal(batch, groups, positions, width_in)
    grads = normal(batch, groups, positions, width_out, seed=1)
    full = np.einsum("bgti,bgto->bgio", inputs.astype("float64"), grads)
    products = OuterProducts(
        ops.convert_to_tensor(inputs), ops.convert_to_tensor(grads), lambda total: total
    )
    np.testing.assert_allclose(products.squared_norms(), np.sum(full**2, axis=(1, 2, 3)), rtol=2e-5)
    assert products.is_full == (positions == 50)
    weights = np.array([0.5, 0.0, 2.0], "float32")
    np.testing.assert_allclose(
        products.weighted_sum(ops.convert_to_tensor(weights)),
        np.einsum("b,bgio->gio", weights, full),
        rtol=1e-4,
        atol=1e-4,
    )


def test_every_factor_can_be_silenced():
    finite = np.array([True, False])
    bad = np.array([[1.0, 2.0], [np.nan, np.inf]], "float32")
    wide = ops.convert_to_tensor(np.tile(bad[:, None, None], (1, 1, 3, 1)))
    contributions = [
        Materialized(bad),
        Rows(ops.zeros((2, 1), "int32"), ops.convert_to_tensor(bad[:, None]), 1),
        OuterProducts(wide[:, :, :1], ops.ones((2, 1, 1, 1)), lambda total: total[0]),
        OuterProducts(wide, ops.ones((2, 1, 3, 1)), lambda total: total[0] / 3.0),
    ]
    for contribution in contributions:
        contribution.squared_norms()
        contribution.factors = [
            np.where(finite.reshape(-1, *[1] * (len(factor.shape) - 1)), factor, 0.0).astype("f4")
            for factor in map(ops.convert_to_numpy, contribution.factors)
        ]
        silenced = contribution.weighted_sum(ops.convert_to_tensor([1.0, 0.0]))
        np.testing.assert_allclose(ops.reshape(silenced, (-1,)), [1.0, 2.0], rtol=1e-6)
