"""Adding or removing one example never moves a clipped sum by more than the bound."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from keras_secure.privacy import (
    AdaptiveClipping,
    AutomaticClipping,
    FlatClipping,
    OuterProducts,
    PerExampleClipping,
    PerLayerClipping,
    Rows,
)

ROWS = 6
BOUND = 1 + 1e-6


def mlp():
    return keras.Sequential([keras.Input((5,)), layers.Dense(8, "relu"), layers.Dense(3)])


def convolutional():
    return keras.Sequential(
        [
            keras.Input((5, 5, 2)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GroupNormalization(2),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


def attention():
    inputs = keras.Input((4, 24))
    hidden = layers.MultiHeadAttention(2, 12)(inputs, inputs)
    hidden = layers.LayerNormalization()(layers.Add()([hidden, inputs]))
    return keras.Model(inputs, layers.GlobalAveragePooling1D()(layers.Dense(3)(hidden)))


def neighbours(model, clip, jit_compile=False):
    """One traced function: a flat clipped sum from (x, y, mask)."""
    engine = PerExampleClipping(model)

    @tf.function(jit_compile=jit_compile, autograph=False)
    def clipped(x, y, mask):
        found, _, _ = engine.clipped_sum(
            lambda: (ops.sum(ops.square(model(x, training=True) - y), axis=-1), None),
            l2_norm_clip=clip,
            batch_size=ROWS,
            example_mask=mask,
        )
        return tf.concat([tf.reshape(value, [-1]) for value in found.values], 0)

    def movement(x, y, index):
        mask = np.ones(ROWS, bool)
        everyone = np.asarray(clipped(x, y, mask), "float64")
        mask[index] = False
        others = np.asarray(clipped(x, y, mask), "float64")
        assert np.isfinite(everyone).all()
        return np.linalg.norm(everyone - others) / clip

    return movement


def adversarial_scale(rng, shape):
    """Mostly ordinary numbers; sometimes tiny, huge, repeated, or no numbers at all."""
    values = rng.normal(size=shape)
    kind = rng.integers(0, 8)
    if kind < 3:
        return values * 10.0 ** rng.uniform(-20, 20)
    if kind == 3:
        return values * 10.0 ** rng.uniform(-20, 20, size=shape)
    if kind == 4:
        return np.full(shape, 10.0 ** rng.uniform(-20, 20))
    return values


def adversarial_batch(rng, shape):
    x = np.stack([adversarial_scale(rng, shape) for _ in range(ROWS)])
    y = np.stack([adversarial_scale(rng, (3,)) for _ in range(ROWS)])
    if rng.random() < 0.3:
        x[1:], y[1:] = x[0], y[0]
    if rng.random() < 0.2:
        x[rng.integers(ROWS)] = rng.choice([np.nan, np.inf, -np.inf])
    with np.errstate(over="ignore"):
        return x.astype("float32"), y.astype("float32")


MODES = {
    "flat": FlatClipping(),
    "per_layer": PerLayerClipping(),
    "automatic": AutomaticClipping(gamma=1e-3),
    "adaptive": AdaptiveClipping(count_stddev=0.9),
}
NOISE_MULTIPLIER = 1.3
BATCHES = {"mlp": (mlp, 250), "convolutional": (convolutional, 100), "attention": (attention, 70)}


def leave_one_out(model, mode):
    """One traced function: the movement of a sum, and of its count, by each example of batches."""
    engine = PerExampleClipping(model)
    clip = keras.Variable(1.0, dtype="float32", trainable=False)
    # Nobody, then everybody but one.
    masks = tf.constant(np.concatenate([np.ones((1, ROWS), bool), ~np.eye(ROWS, dtype=bool)]))

    def one_sum(x, y, mask):
        found, _, _ = engine.clipped_sum(
            lambda: (ops.sum(ops.square(model(x, training=True) - y), axis=-1), None),
            l2_norm_clip=clip,
            batch_size=ROWS,
            example_mask=mask,
            mode=mode,
        )
        flat = tf.concat([tf.reshape(value, [-1]) for value in found.values], 0)
        return tf.concat([flat, [found.count]], 0)

    @tf.function(autograph=False)
    def movements(x, y, clips):
        def one_batch(elements):
            bound = clip.value.assign(elements[2])
            with tf.control_dependencies([bound]):
                sums = tf.map_fn(
                    lambda mask: one_sum(elements[0], elements[1], mask),
                    masks,
                    fn_output_signature=tf.float32,
                )
            return tf.cast(sums, tf.float64)

        sums = tf.map_fn(
            one_batch, (x, y, clips), fn_output_signature=tf.float64, parallel_iterations=1
        )
        moved = sums[:, :1] - sums[:, 1:]
        bounds = tf.cast(clips, tf.float64)[:, None]
        return tf.norm(moved[..., :-1], axis=-1) / bounds, moved[..., -1]

    return movements


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", BATCHES)
def test_10000_random_neighbouring_batches(name, mode):
    """12 cases, 10,080 pairs: half the batches ordinary, half of them hostile."""
    build, count = BATCHES[name]
    model = build()
    rng = np.random.default_rng(11)
    x = np.empty((count, ROWS, *model.input_shape[1:]), "float32")
    y = np.empty((count, ROWS, 3), "float32")
    for trial in range(count):
        if trial % 2:
            x[trial], y[trial] = adversarial_batch(rng, model.input_shape[1:])
        else:
            x[trial] = rng.normal(size=x.shape[1:])
            y[trial] = 10.0 ** rng.uniform(-2, 2) * rng.normal(size=(ROWS, 3))
    clips = (10.0 ** rng.uniform(-3, 2, count)).astype("float32")
    moved, counted = (np.asarray(m) for m in leave_one_out(model, MODES[mode])(x, y, clips))
    assert np.isfinite(moved).all()
    print(f"\n{name}, {mode}: largest movement over the clip minus one: {moved.max() - 1:.2e}")
    assert moved.max() <= BOUND
    # The test would be empty if little ever reached the bound.
    assert np.mean(moved > 0.95) > 0.1
    np.testing.assert_array_equal(np.abs(counted), 0.5)
    if mode == "adaptive":
        # Sum and count, each over its own noise, move together as one sum under the stated noise.
        stddev = MODES[mode].sum_noise_multiplier(NOISE_MULTIPLIER, ROWS)
        joint = NOISE_MULTIPLIER * np.hypot(moved / stddev, counted / 0.9)
        assert 0.99 < joint.max() <= BOUND


def test_neighbouring_batches_under_xla():
    movement = neighbours(mlp(), 1.0, jit_compile=True)
    rng = np.random.default_rng(3)
    moved = [movement(*adversarial_batch(rng, (5,)), rng.integers(ROWS)) for _ in range(150)]
    assert 0.99 < max(moved) <= BOUND


def test_tokens():
    model = keras.Sequential(
        [
            keras.Input((12,), dtype="int32"),
            layers.Embedding(4, 6),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3),
        ]
    )
    movement = neighbours(model, 0.5)
    rng = np.random.default_rng(5)
    moved = []
    for _ in range(150):
        tokens = rng.integers(0, rng.integers(1, 5), (ROWS, 12))
        y = np.float32(10.0 ** rng.uniform(-3, 15)) * rng.normal(size=(ROWS, 3))
        moved.append(movement(tokens.astype("int32"), y.astype("float32"), rng.integers(ROWS)))
    assert 0.99 < max(moved) <= BOUND


def test_large_batch_of_aligned_gradients():
    """Rounding of the sum grows with the batch; the margin below the bound must absorb it."""
    size = 512
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, use_bias=False)])
    engine = PerExampleClipping(model)
    x = np.tile(np.random.default_rng(0).normal(size=(1, 8)), (size, 1)).astype("float32")

    def clipped(mask):
        found, _, _ = engine.clipped_sum(
            lambda: (ops.sum(1e3 * model(x), axis=-1), None),
            l2_norm_clip=1.0,
            batch_size=size,
            example_mask=mask,
        )
        return np.asarray(found.values[0], "float64")

    mask = np.ones(size, bool)
    everyone = clipped(mask)
    mask[17] = False
    assert np.linalg.norm(everyone - clipped(mask)) <= 1 + 1e-4
    assert np.linalg.norm(everyone) == pytest.approx(size, rel=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_example_without_a_finite_gradient_counts_as_zero(bad):
    model = convolutional()
    engine = PerExampleClipping(model)
    rng = np.random.default_rng(2)
    x = rng.normal(size=(ROWS, 5, 5, 2)).astype("float32")

    def clipped(x, mask):
        found, _, _ = engine.clipped_sum(
            lambda: (ops.sum(ops.square(model(x, training=True)), axis=-1), None),
            l2_norm_clip=0.5,
            batch_size=ROWS,
            example_mask=mask,
        )
        return found

    without = clipped(x, np.arange(ROWS) != 2)
    x[2, 1, 1, 0] = bad
    everyone = clipped(x, np.ones(ROWS, bool))
    if not np.isfinite(np.asarray(everyone.norms)[2]):
        for got, expected in zip(everyone.values, without.values, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)
    else:
        assert bad == 3e38  # GroupNormalization may bring large numbers back to ordinary ones


def norm_and_release(contribution):
    norms = np.sqrt(np.asarray(contribution.squared_norms(), "float64"))
    one = np.zeros(norms.shape, "float32")
    released = []
    for index in range(len(norms)):
        one[:] = 0
        one[index] = 1
        released.append(np.linalg.norm(np.asarray(contribution.weighted_sum(one), "float64")))
    return norms, np.array(released)


def outer(inputs, grads):
    return OuterProducts(
        ops.convert_to_tensor(inputs.astype("float32")),
        ops.convert_to_tensor(grads.astype("float32")),
        lambda total: total,
    )


@pytest.mark.parametrize("positions", [1, 2, 8])
@pytest.mark.parametrize("exponent", [-23, -20, -19, -18, 0, 18])
def test_tiny_inputs_that_meet_huge_gradients_are_not_underestimated(positions, exponent):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(3, 1, positions, 40)) * 10.0**exponent
    grads = rng.normal(size=(3, 1, positions, 40)) * 10.0 ** min(18, -exponent)
    norms, released = norm_and_release(outer(inputs, grads))
    assert (released <= norms * (1 + 2e-6)).all()


@given(st.integers(2, 12), st.floats(1e-9, 1.0), st.floats(-6, 6), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_positions_that_cancel_are_not_underestimated(positions, remainder, scale, seed):
    """Positions whose large gradients cancel leave a norm that Gram matrices cannot resolve."""
    rng = np.random.default_rng(seed)
    signs = np.where(np.arange(positions) % 2, -1.0, 1.0)[:, None]
    inputs = np.repeat(rng.normal(size=(2, 1, 1, 40)), positions, axis=2)
    grads = 10.0**scale * signs * rng.normal(size=(2, 1, 1, 40))
    grads = grads * (1 + remainder * rng.normal(size=(2, 1, positions, 40)))
    if positions % 2:
        grads[:, :, -1] = 0.0
    norms, released = norm_and_release(outer(inputs, grads))
    assert (released <= norms * 1.01).all()


def test_rows_that_cancel_are_not_underestimated():
    rng = np.random.default_rng(0)
    for remainder in (0.0, 1e-7, 1e-4, 1e-2):
        grads = rng.normal(size=(4, 1, 8)) * 1e6 * np.array([1, -1, 1, -1])[:, None]
        grads = grads * (1 + remainder * rng.normal(size=(4, 4, 8)))
        rows = Rows(ops.ones((4, 4), "int32"), ops.convert_to_tensor(grads.astype("float32")), 3)
        norms, released = norm_and_release(rows)
        assert (released <= norms * (1 + 1e-5) + 1e-30).all()
