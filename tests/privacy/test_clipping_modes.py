"""Clipping modes against a loop over single examples, and the arithmetic of the adaptive clip."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import keras_secure as ks
from keras_secure.errors import PrivacyError
from keras_secure.privacy import (
    AdaptiveClipping,
    AutomaticClipping,
    ClippingMode,
    FlatClipping,
    PerExampleClipping,
    PerLayerClipping,
)

RNG = np.random.default_rng(0)
SIZE = 7


def nested():
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(5, "tanh", name="inner_dense")])
    inputs = keras.Input((4,))
    hidden = layers.Dense(6, "relu", name="first")(inputs)
    hidden = layers.LayerNormalization(name="norm")(inner(hidden))
    return keras.Model(inputs, layers.Dense(2, name="last")(hidden))


def by_example(model, x, y):
    """The gradient of every example, float64, as a list over examples of lists over variables."""
    found = []
    for index in range(len(x)):
        with tf.GradientTape() as tape:
            loss = ops.sum(ops.square(model(x[index : index + 1]) - y[index : index + 1]))
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        found.append([np.asarray(g, "float64") for g in gradients])
    return found


def norm(gradients):
    return np.sqrt(sum(np.sum(g**2) for g in gradients))


def flat(gradients, clip):
    factor = min(1.0, clip / norm(gradients))
    return [factor * g for g in gradients]


def automatic(gradients, clip):
    return [g * clip / (norm(gradients) + 0.05) for g in gradients]


def per_layer(weights):
    def clipped(gradients, clip):
        # Kernel and bias (scale and offset) of one layer follow each other.
        pairs = [gradients[i : i + 2] for i in range(0, len(gradients), 2)]
        shares = clip * np.array(weights) / np.linalg.norm(weights)
        parts = [flat(pair, share) for pair, share in zip(pairs, shares, strict=True)]
        return [g for part in parts for g in part]

    return clipped


CASES = {
    "flat": (FlatClipping(), flat),
    "adaptive": (AdaptiveClipping(), flat),
    "automatic": (AutomaticClipping(gamma=0.05), automatic),
    "per_layer": (PerLayerClipping(), per_layer([1, 1, 1, 1])),
    "weighted": (PerLayerClipping({"inner_dense": 3.0, "last": 0.5}), per_layer([1, 3, 1, 0.5])),
}


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_every_mode_is_its_slow_truth(name, jit_compile):
    mode, truth = CASES[name]
    model = nested()
    x = RNG.normal(size=(SIZE, 4)).astype("float32")
    y = (RNG.normal(size=(SIZE, 2)) * 10.0 ** RNG.uniform(-1, 1, (SIZE, 1))).astype("float32")
    singles = by_example(model, x, y)
    norms = np.array([norm(g) for g in singles])
    clip = float(np.median(norms)) * 1.0001
    mask = np.arange(SIZE) != 3

    def total(clipped):
        kept = [clipped(singles[i], clip) for i in np.flatnonzero(mask)]
        return [sum(parts) for parts in zip(*kept, strict=True)]

    expected = total(truth)

    @tf.function(jit_compile=jit_compile, autograph=False)
    def clipped():
        found, _, _ = PerExampleClipping(model).clipped_sum(
            lambda: (ops.sum(ops.square(model(x, training=True) - y), axis=-1), None),
            l2_norm_clip=clip,
            batch_size=SIZE,
            example_mask=ops.convert_to_tensor(mask),
            mode=mode,
        )
        return found.values, found.norms, found.count

    values, found_norms, count = clipped()
    scale = norm(expected)
    difference = [np.asarray(v, "float64") - e for v, e in zip(values, expected, strict=True)]
    assert norm(difference) / scale < 1e-5
    np.testing.assert_allclose(np.asarray(found_norms)[mask], norms[mask], rtol=1e-5)
    within = norms[mask] <= clip
    assert float(count) == np.sum(within) - np.sum(mask) / 2
    # Other modes than the one that is tested would not pass.
    for other, (_, wrong) in CASES.items():
        if wrong is not truth:
            difference = [a - b for a, b in zip(total(wrong), expected, strict=True)]
            assert norm(difference) / scale > 1e-3, other


@pytest.mark.parametrize("name", CASES)
def test_an_example_that_is_not_finite_counts_as_zero_and_as_above_the_clip(name):
    mode, _ = CASES[name]
    model = nested()
    engine = PerExampleClipping(model)
    x = RNG.normal(size=(SIZE, 4)).astype("float32")

    def clipped(x, mask):
        found, _, _ = engine.clipped_sum(
            lambda: (ops.sum(ops.square(model(x, training=True)), axis=-1), None),
            l2_norm_clip=1e3,
            batch_size=SIZE,
            example_mask=ops.convert_to_tensor(mask),
            mode=mode,
        )
        return found

    without = clipped(x, np.arange(SIZE) != 2)
    x[2, 1] = np.nan
    everyone = clipped(x, np.ones(SIZE, bool))
    for got, expected in zip(everyone.values, without.values, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert float(without.count) == (SIZE - 1) / 2
    assert float(everyone.count) == float(without.count) - 0.5
    assert float(clipped(x, np.zeros(SIZE, bool)).count) == 0.0


def test_layers_own_their_variables_once_and_frozen_ones_have_no_share():
    model = nested()
    groups = PerLayerClipping().groups(model)
    assert [len(variables) for variables, _ in groups] == [2, 2, 2, 2]
    assert sum(share**2 for _, share in groups) == pytest.approx(1.0)
    model.get_layer("norm").trainable = False
    groups = PerLayerClipping({"last": 2.0}).groups(model)
    assert [round(share, 6) for _, share in groups] == [round(w / 6**0.5, 6) for w in (1, 1, 2)]
    found = {id(v) for variables, _ in groups for v in variables}
    assert found == {id(v) for v in model.trainable_variables}
    shared = layers.Dense(4, name="shared")
    inputs = keras.Input((4,))
    twice = keras.Model(inputs, shared(shared(inputs)))
    assert len(PerLayerClipping().groups(twice)) == 1
    attention = keras.Input((3, 4))
    model = keras.Model(attention, layers.MultiHeadAttention(2, 2)(attention, attention))
    assert len(PerLayerClipping().groups(model)) == 4


@pytest.mark.parametrize("mode", [case[0] for case in CASES.values()])
def test_modes_survive_their_configuration(mode):
    assert ClippingMode.get(mode.get_config()) == mode
    assert ClippingMode.get(mode.kind).kind == mode.kind
    optimizer = ks.optimizers.DPSGD(l2_norm_clip=1.0, noise_multiplier=0.1, clipping=mode)
    assert optimizer.clipping == mode
    clone = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert clone.clipping == mode
    assert clone.get_config() == optimizer.get_config()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClippingMode.get("ghost"), r"'ghost'.*'adaptive', 'automatic', 'flat'"),
        (lambda: ClippingMode.get(None), "Unknown clipping None"),
        (lambda: AutomaticClipping(gamma=0.0), "at least 1e-8"),
        (lambda: AutomaticClipping(gamma=float("nan")), "gamma is nan"),
        (lambda: PerLayerClipping({"a": 0.0}), "'a' is 0.0; it must be positive"),
        (lambda: PerLayerClipping({"nowhere": 1.0}).groups(nested()), "'nowhere'.*first, inner"),
        (lambda: AdaptiveClipping(target_quantile=1.0), "strictly in"),
        (lambda: AdaptiveClipping(learning_rate=-0.1), "must be positive"),
        (lambda: AdaptiveClipping(count_stddev=0.0), "count_stddev is 0.0"),
        (lambda: AdaptiveClipping().sum_noise_multiplier(1.6, 16), r"above 0.8.*larger batch"),
    ],
)
def test_impossible_modes_are_refused(make, message):
    with pytest.raises(PrivacyError, match=message):
        make()


def test_gradient_and_count_together_cost_what_is_stated():
    import dp_accounting
    from dp_accounting import rdp

    mode = AdaptiveClipping()
    for stated in (0.5, 1.1, 4.0):
        gradient = mode.sum_noise_multiplier(stated, 256)
        assert gradient > stated
        together, one = rdp.RdpAccountant(), rdp.RdpAccountant()
        # The count moves by 1/2 under noise of 256 / 20.
        together.compose(dp_accounting.GaussianDpEvent(gradient))
        together.compose(dp_accounting.GaussianDpEvent(2 * 256 / 20))
        one.compose(dp_accounting.GaussianDpEvent(stated))
        assert together.get_epsilon(1e-5) == pytest.approx(one.get_epsilon(1e-5), rel=1e-9)
    assert mode.sum_noise_multiplier(0.0, 256) == 0.0
