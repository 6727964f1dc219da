"""Microbatches: the same step in less memory, in one trace, without the head-room."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import keras_secure as ks
from keras_secure.errors import PrivacyError
from keras_secure.privacy import ClippedSum
from keras_secure.privacy.microbatches import sum_of_microbatches

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 6)).astype("float32")
LABELS = RNG.integers(0, 3, 60).astype("int32")
TARGETS = RNG.normal(size=(60, 2)).astype("float32")
MODES = ("flat", "per_layer", "automatic", "adaptive")


def logits_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def small(*parts):
    return keras.Sequential([keras.Input((6,)), layers.Dense(8, "tanh"), *parts, layers.Dense(3)])


def two_headed():
    one, two = keras.Input((6,), name="one"), keras.Input((6,), name="two")
    hidden = layers.Dense(5, "tanh")(layers.Concatenate()([one, two]))
    return keras.Model(
        [one, two], [layers.Dense(3, name="kind")(hidden), layers.Dense(2, name="size")(hidden)]
    )


def train(rows, build=small, x=X, y=LABELS, objective=None, options=None, fit=None, **plan):
    """Two private epochs; returns weights, history and optimizer."""
    keras.utils.set_random_seed(1)
    model = build()
    secure = ks.SecureModel(model, objective=objective() if objective else None)
    plan = {"l2_norm_clip": 0.5, "noise_multiplier": 0.4, "seed": 3, **plan}
    options = {"loss": logits_loss(), "metrics": ["accuracy"], **(options or {})}
    secure.compile(ks.optimizers.DPSGD(0.5, microbatch_size=rows, **plan), **options)
    history = secure.fit(x, y, batch_size=12, epochs=2, verbose=0, **(fit or {})).history
    weights = np.concatenate([w.ravel() for w in model.get_weights()])
    return weights, history, secure.optimizer


def assert_same(one, other, tolerance=1e-6):
    (weights, history, optimizer), (found, split, splitting) = one, other
    np.testing.assert_allclose(found, weights, rtol=tolerance, atol=tolerance)
    assert set(history) == set(split)
    for name, values in history.items():
        np.testing.assert_allclose(split[name], values, rtol=1e-5, err_msg=name)
    assert optimizer.executed_steps == splitting.executed_steps == 10
    # All that epsilon is computed from.
    assert optimizer.ledger.phases(10) == splitting.ledger.phases(10)
    bounds = [float(ops.convert_to_numpy(o.l2_bound)) for o in (optimizer, splitting)]
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-6)


@functools.cache
def whole(mode="flat"):
    """The plain run in one go: 40 rows are the whole static shape."""
    return train(40, clipping=mode)


@pytest.mark.parametrize(
    "mode", [m if m == "adaptive" else pytest.param(m, marks=pytest.mark.slow) for m in MODES]
)
def test_every_mode_equals_the_whole_batch(mode):
    # 7 rows do not divide the whole.
    assert_same(whole(mode), train(7, clipping=mode))


WEIGHTS = RNG.random(60).astype("float32")
VARIANTS = {
    "default": {"rows": None},
    "jit": {"options": {"jit_compile": True}},
    "eager": {"options": {"run_eagerly": True}},
    "several_steps": {"options": {"steps_per_execution": 3}},
    "sample_weight": {
        "fit": {"sample_weight": WEIGHTS},
        "options": {"metrics": None, "weighted_metrics": ["accuracy"]},
    },
    "nested": {
        "build": two_headed,
        "x": [X, X],
        "y": [LABELS, TARGETS],
        "options": {"loss": [logits_loss(), "mse"], "metrics": [["accuracy"], ["mae"]]},
    },
    "attack": {
        "objective": lambda: ks.objectives.AdversarialTraining(
            ks.attacks.PGD(0.1, steps=3, random_start=False, bounds=(-5.0, 5.0))
        )
    },
    "regularizer": {
        "build": lambda: small(layers.Dense(4, kernel_regularizer=keras.regularizers.L2(0.1)))
    },
    "layer_without_a_rule": {"build": lambda: small(Unruled())},
}


FEW = ("jit", "nested", "attack")
PLAIN = ("default", "jit", "eager", "several_steps")


class Unruled(layers.Layer):
    """A layer that only the fallback covers."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, inputs):
        return ops.sin(inputs * self.scale)


@pytest.mark.filterwarnings("ignore::keras_secure.errors.FallbackWarning")
@pytest.mark.parametrize(
    "name", [n if n in FEW else pytest.param(n, marks=pytest.mark.slow) for n in VARIANTS]
)
def test_every_way_to_train_equals_the_whole_batch(name):
    variant = dict(VARIANTS[name])
    rows = variant.pop("rows", 7)
    one = whole() if name in PLAIN else train(40, **variant)
    assert_same(one, train(rows, **variant), tolerance=2e-6)


def test_half_precision():
    keras.config.set_dtype_policy("mixed_float16")
    (weights, _, _), (found, _, _) = train(40), train(7)
    np.testing.assert_allclose(found, weights, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_dropout_draws_anew_for_every_microbatch_and_every_step(jit_compile):
    dropout = layers.Dropout(0.5)
    ones = tf.ones((12, 64))

    variables = [keras.Variable(np.zeros((3, 64), "float32"))]
    masks = tf.function(
        lambda: first_masks(dropout, ones, variables), autograph=False, jit_compile=jit_compile
    )
    first, second = np.asarray(masks()), np.asarray(masks())
    # One row for each part: parts differ, and so do steps.
    for drawn in (first, second):
        assert set(np.unique(drawn)) == {0.0, 2.0}
        assert len({row.tobytes() for row in drawn}) == 3
    assert not np.array_equal(first, second)


def first_masks(dropout, ones, variables):
    """The first dropout mask of each of three microbatches of four rows."""
    numbers = tf.repeat(tf.range(3), 4)

    def part_sum(part, mask):
        rows, number = part
        mask = dropout(rows, training=True)[0]
        value = tf.cast(tf.range(3) == number[0], tf.float32)[:, None] * mask[None]
        return ClippedSum([value], 1.0, None, tf.constant(0.0))

    return sum_of_microbatches(part_sum, variables, (ones, numbers), None, 4).values[0]


def counted_sum(size, mask, rows):
    """How many rows were computed, their sum, and the count."""
    computed = tf.Variable(0)

    def part_sum(part, part_mask):
        computed.assign_add(tf.shape(part["x"])[0])
        kept = tf.cast(part_mask, tf.float32)
        value = tf.reduce_sum(part["x"] * kept)
        assert part["y"] is None
        return ClippedSum([value], 2.0, None, tf.reduce_sum(kept) / 2)

    x = tf.range(1, size + 1, dtype=tf.float32)
    variables = [keras.Variable(0.0)]

    @tf.function(autograph=False)
    def run():
        total = sum_of_microbatches(part_sum, variables, {"x": x, "y": None}, mask, rows)
        assert total.l2_bound == 2.0
        assert total.norms is None
        return total.values[0], total.count

    total, count = run()
    return int(computed), float(total), float(count)


@pytest.mark.parametrize(
    ("real", "computed"), [(0, 8), (1, 8), (8, 8), (9, 16), (20, 24), (36, 40)]
)
def test_padding_at_the_end_is_not_computed(real, computed):
    mask = np.arange(36) < real
    found, total, count = counted_sum(36, tf.constant(mask), 8)
    assert found == computed
    assert total == real * (real + 1) / 2
    assert count == real / 2


def test_padding_in_between_counts_as_nothing():
    mask = np.arange(36) % 3 == 1
    _, total, count = counted_sum(36, tf.constant(mask), 8)
    assert total == np.sum((np.arange(36) + 1)[mask])
    assert count == mask.sum() / 2


def test_batches_of_the_users_own_pipeline_of_any_size():
    """The last batch is smaller, so that the batch axis is not static."""

    def run(rows):
        keras.utils.set_random_seed(1)
        secure = ks.SecureModel(small())
        optimizer = ks.optimizers.DPSGD(
            0.5,
            l2_norm_clip=0.5,
            noise_multiplier=0.4,
            expected_batch_size=16,
            microbatch_size=rows,
            seed=3,
        )
        secure.compile(optimizer, loss=logits_loss(), metrics=["accuracy"])
        data = tf.data.Dataset.from_tensor_slices((X, LABELS)).batch(16)
        history = secure.fit(data, epochs=2, verbose=0).history
        assert optimizer.executed_steps == 8
        return np.concatenate([w.ravel() for w in secure.get_weights()[:4]]), history

    (weights, history), (found, split) = run(None), run(5)
    np.testing.assert_allclose(found, weights, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(split["loss"], history["loss"], rtol=1e-5)
    np.testing.assert_allclose(split["accuracy"], history["accuracy"], rtol=1e-6)


@pytest.mark.parametrize(
    ("mode", "rows"),
    [
        ("flat", None),
        ("adaptive", 9),
        pytest.param("per_layer", 9, marks=pytest.mark.slow),
        pytest.param("automatic", 9, marks=pytest.mark.slow),
    ],
)
def test_1000_steps_are_one_trace(mode, rows):
    shapes = []

    def loss(y, p):
        shapes.append(p.shape)
        return keras.losses.sparse_categorical_crossentropy(y, p, from_logits=True)

    secure = ks.SecureModel(small())
    optimizer = ks.optimizers.DPSGD(
        0.01, l2_norm_clip=0.5, noise_multiplier=0.4, clipping=mode, microbatch_size=rows
    )
    secure.compile(optimizer, loss=loss, metrics=["accuracy"], steps_per_execution=50)
    secure.fit(X, LABELS, batch_size=12, epochs=1, steps_per_epoch=50, verbose=0)
    traced = [shape for shape in shapes if shape[0] != 3]
    # Keras traces the step for the execution of several; each trace calls the loss once.
    assert 1 <= len(traced) <= 2
    seen = len(shapes)
    secure.fit(X, LABELS, batch_size=12, epochs=19, steps_per_epoch=50, verbose=0)
    assert optimizer.executed_steps == 1000
    assert all(shape[0] == 3 for shape in shapes[seen:])


@pytest.mark.parametrize("rows", [0, -1, 2.5, "8"])
def test_impossible_microbatches_are_refused(rows):
    with pytest.raises(PrivacyError, match=r"microbatch_size is .*positive whole number"):
        ks.optimizers.DPSGD(l2_norm_clip=1.0, noise_multiplier=1.0, microbatch_size=rows)


def test_microbatch_size_survives_the_configuration():
    optimizer = ks.optimizers.DPAdam(l2_norm_clip=1.0, noise_multiplier=1.0, microbatch_size=64)
    clone = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert clone.microbatch_size == 64
