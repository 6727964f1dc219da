"""Private `fit`: what it divides by, counts, measures and leaves alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import keras_secure as ks
from keras_secure.callbacks.privacy_budget import PrivacyBudget
from keras_secure.privacy import PoissonSampling, UnstatedSampling

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 6)).astype("float32")
LABELS = RNG.integers(0, 3, 60).astype("int32")
TARGETS = RNG.normal(size=(60, 2)).astype("float32")


def logits_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def small(*parts):
    return keras.Sequential([keras.Input((6,)), *parts, layers.Dense(3)])


def private(model=None, objective=None, options=None, rate=0.1, **plan):
    """A compiled SecureModel and its optimizer."""
    plan = {"l2_norm_clip": 1.0, "noise_multiplier": 3.0, **plan}
    secure = ks.SecureModel(model or small(), objective=objective)
    options = {"loss": logits_loss(), "metrics": ["accuracy"], **(options or {})}
    secure.compile(ks.optimizers.DPSGD(rate, **plan), **options)
    return secure, secure.optimizer


def fit(secure, x=X, y=LABELS, **options):
    return secure.fit(x, y, **{"batch_size": 12, "verbose": 0, **options}).history


def test_arrays_are_sampled_and_accounted_as_poisson():
    secure, optimizer = private()
    history = fit(secure, epochs=2)
    (phase,) = optimizer.ledger.phases(optimizer.executed_steps)
    assert phase.steps == 10
    assert phase.sampling == PoissonSampling(0.2, 60, ks.privacy.physical_batch_size(60, 12))
    assert phase.expected_batch_size == 12
    assert optimizer.epsilon(1e-3) == ks.privacy.epsilon(phase, 1e-3)
    assert sorted(history) == ["accuracy", "loss"]


class Realised(keras.callbacks.Callback):
    """The weights after every step."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_train_begin(self, logs=None):
        self.weights.append(self.model.model.get_weights())

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append(self.model.model.get_weights())


def test_the_sum_is_divided_by_the_expected_size_whatever_was_drawn():
    """A loss with constant gradient shows how many examples a step summed, over what."""
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    secure, _ = private(
        model,
        rate=1.0,
        noise_multiplier=0.0,
        seed=1,
        options={"loss": lambda y, p: p[:, 0], "metrics": None},
    )
    realised = Realised()
    ones = np.ones((60, 1), "float32")
    fit(secure, ones, ones, epochs=8, callbacks=[realised])
    weights = np.array([w[0][0, 0] for w in realised.weights])
    sizes = -np.diff(weights) * 12
    np.testing.assert_allclose(sizes, np.round(sizes), atol=1e-3)
    assert len(set(np.round(sizes))) > 4
    assert 8 < sizes.mean() < 16


def test_expected_batch_size_given_by_the_user_is_the_divisor():
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    secure, optimizer = private(
        model,
        rate=1.0,
        noise_multiplier=0.0,
        expected_batch_size=100,
        options={"loss": lambda y, p: p[:, 0], "metrics": None},
    )
    for size in (4, 30):
        before = model.get_weights()[0][0, 0]
        secure.train_on_batch(np.ones((size, 1), "float32"), np.ones((size, 1), "float32"))
        moved = before - model.get_weights()[0][0, 0]
        assert moved == pytest.approx(size / 100, rel=1e-4)
    assert optimizer.executed_steps == 2


def test_empty_batches_add_noise_and_count():
    model = small()
    secure, optimizer = private(model, rate=1.0)
    realised = Realised()
    fit(secure, batch_size=1, epochs=1, callbacks=[realised])
    assert optimizer.executed_steps == 60
    for before, after in zip(realised.weights, realised.weights[1:], strict=False):
        assert all(np.any(a != b) for a, b in zip(before, after, strict=True))


def test_one_trace_over_many_steps_epochs_and_batch_sizes():
    traces = []

    def loss(y, p):
        traces.append(p.shape)
        return keras.losses.sparse_categorical_crossentropy(y, p, from_logits=True)

    secure, optimizer = private(options={"loss": loss})
    fit(secure, epochs=3)
    assert [s for s in traces if s[0] != 3].count((40, 3)) <= 2 or len(traces) < 12
    seen = len(traces)
    fit(secure, epochs=6)
    # A later fit checks the model again, on three examples, and traces nothing.
    assert all(shape[0] == 3 for shape in traces[seen:])
    assert optimizer.executed_steps == 45


def test_metrics_leave_padding_out():
    class Constant(layers.Layer):
        def build(self, shape):
            self.bias = self.add_weight(shape=(3,), initializer="zeros")

        def call(self, inputs):
            return keras.ops.zeros_like(inputs[:, :3]) + [1.0, 0.0, 0.0] + 0.0 * self.bias

    labels = (np.arange(60) % 4 == 0).astype("int32")
    labels[0] = 1  # padding repeats the first example, which is wrong
    expected = np.mean(labels == 0)
    model = small()
    for value in model.trainable_variables:
        value.assign(value * 0.0)
    model.layers[-1].bias.assign([1.0, 0.0, 0.0])
    secure, _ = private(model, rate=0.0, noise_multiplier=1.0, seed=1)
    history = fit(secure, y=labels, epochs=30)
    assert np.mean(history["accuracy"]) == pytest.approx(expected, abs=0.03)
    loss = -np.log(np.exp([1.0, 0.0]) / (np.e + 2))
    loss = expected * loss[0] + (1 - expected) * loss[1]
    assert np.mean(history["loss"]) == pytest.approx(loss, abs=0.05)
    weighted, _ = private(
        model, rate=0.0, seed=1, options={"metrics": None, "weighted_metrics": ["accuracy"]}
    )
    history = fit(weighted, y=labels, sample_weight=1.0 + labels, epochs=30)
    weights = 1.0 + labels
    expected = np.sum(weights * (labels == 0)) / weights.sum()
    assert np.mean(history["accuracy"]) == pytest.approx(expected, abs=0.03)


def two_headed():
    one, two = keras.Input((6,), name="one"), keras.Input((6,), name="two")
    hidden = layers.Dense(5, "tanh")(layers.Concatenate()([one, two]))
    return keras.Model(
        [one, two], [layers.Dense(3, name="kind")(hidden), layers.Dense(2, name="size")(hidden)]
    )


@pytest.mark.parametrize("as_dict", [False, True])
def test_several_inputs_and_outputs(as_dict):
    options = {"loss": [logits_loss(), "mse"], "metrics": [["accuracy"], ["mae"]]}
    y = [LABELS, TARGETS]
    if as_dict:
        options = {
            "loss": {"kind": logits_loss(), "size": "mse"},
            "metrics": {"kind": ["accuracy"], "size": ["mae"]},
        }
        y = {"kind": LABELS, "size": TARGETS}
    secure, optimizer = private(two_headed(), options=options)
    history = fit(secure, [X, X], y, epochs=2, validation_data=([X, X], y))
    names = {"kind_accuracy", "kind_loss", "loss", "size_loss", "size_mae"}
    assert set(history) == names | {f"val_{name}" for name in names}
    parts = np.add(history["kind_loss"], history["size_loss"])
    np.testing.assert_allclose(parts, history["loss"], rtol=1e-4)
    assert optimizer.executed_steps == 10


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.last = layers.Dense(8, "relu"), layers.Dense(3)

    def call(self, inputs):
        return self.last(self.hidden(inputs))


VARIANTS = {
    "subclassed": (Subclassed, {}, {}),
    "jit": (small, {"jit_compile": True}, {}),
    "eager": (small, {"run_eagerly": True}, {}),
    "several_steps": (small, {"steps_per_execution": 3}, {}),
    "class_weight": (small, {}, {"class_weight": {0: 1.0, 1: 0.5, 2: 2.0}}),
    "sample_weight": (
        small,
        {},
        {"sample_weight": np.ones(60), "class_weight": {0: 1, 1: 2, 2: 3}},
    ),
    "validation_split": (small, {}, {"validation_split": 0.2}),
    "dropout": (lambda: small(layers.Dense(8), layers.Dropout(0.5)), {}, {}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_ways_to_fit(name):
    build, compile_options, fit_options = VARIANTS[name]
    secure, optimizer = private(build(), options=compile_options)
    history = fit(secure, epochs=2, **fit_options)
    assert np.isfinite(history["loss"]).all()
    assert optimizer.executed_steps == (8 if name == "validation_split" else 10)
    assert ("val_loss" in history) == (name == "validation_split")
    if name == "validation_split":
        assert optimizer.ledger.phases(8)[-1].sampling.dataset_size == 48


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_keeps_the_fast_rules(policy):
    keras.config.set_dtype_policy(policy)
    secure, _ = private(small(layers.Dense(8, "relu"), layers.LayerNormalization()))
    history = fit(secure)
    assert np.isfinite(history["loss"]).all()
    assert secure._private.clipping.gradients.layers()[1] == []
    assert not isinstance(secure.optimizer, keras.optimizers.LossScaleOptimizer)


def test_frozen_layers_stay_and_regularizers_pull_without_noise():
    model = small(layers.Dense(4), layers.BatchNormalization())
    model.layers[0].trainable = model.layers[1].trainable = False
    before = model.layers[0].get_weights() + model.layers[1].get_weights()
    secure, _ = private(model)
    fit(secure)
    after = model.layers[0].get_weights() + model.layers[1].get_weights()
    for first, second in zip(before, after, strict=True):
        np.testing.assert_array_equal(first, second)

    ones = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(1, use_bias=False, kernel_regularizer=keras.regularizers.L2(0.5)),
        ]
    )
    ones.layers[0].kernel.assign(np.ones((6, 1)))
    secure, _ = private(
        ones,
        rate=0.1,
        noise_multiplier=0.0,
        l2_norm_clip=1e-6,
        options={"loss": "mse", "metrics": []},
    )
    fit(secure, y=TARGETS[:, :1], epochs=1)
    np.testing.assert_allclose(ones.get_weights()[0], 0.9**5, rtol=1e-4)


def test_nan_in_one_example_does_no_harm():
    bad = X.copy()
    bad[0], bad[7] = np.nan, np.inf
    secure, _ = private()
    fit(secure, bad, epochs=3)
    assert all(np.isfinite(w).all() for w in secure.get_weights())


def test_lists_of_labels_are_taken_as_keras_takes_them():
    secure, optimizer = private()
    fit(secure, y=LABELS.tolist())
    assert optimizer.executed_steps == 5


def test_objectives_under_privacy():
    x = RNG.uniform(size=(60, 6)).astype("float32")
    pgd = ks.attacks.PGD(epsilon=0.1, steps=2)
    for objective in (ks.objectives.TRADES(pgd), ks.objectives.AdversarialTraining(pgd, 0.5)):
        secure, optimizer = private(objective=objective)
        assert np.isfinite(fit(secure, x)["loss"]).all()
        assert optimizer.executed_steps == 5


def test_dataset_is_accounted_without_amplification_unless_stated():
    data = tf.data.Dataset.from_tensor_slices((X, LABELS)).batch(16)
    secure, optimizer = private(expected_batch_size=16)
    secure.fit(data, epochs=2, verbose=0)
    (phase,) = optimizer.ledger.phases(8)
    assert phase.sampling == UnstatedSampling()
    stated = PoissonSampling(16 / 60, 60)
    known, other = private(expected_batch_size=16, sampling=stated)
    known.fit(data, epochs=2, verbose=0)
    assert other.ledger.phases(8)[0].sampling == stated
    assert other.epsilon(1e-3) < optimizer.epsilon(1e-3)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = slice(20 * index, 20 * index + 20)
        return X[rows], LABELS[rows]


def test_py_dataset():
    secure, optimizer = private(expected_batch_size=20)
    secure.fit(Batches(), verbose=0)
    assert optimizer.executed_steps == 3


def test_every_step_counts_over_fits_batches_and_compiles():
    secure, optimizer = private(expected_batch_size=12, noise_multiplier=4.0)
    fit(secure)
    spent = [optimizer.epsilon(1e-3)]
    fit(secure)
    spent.append(optimizer.epsilon(1e-3))
    secure.train_on_batch(X[:12], LABELS[:12])
    secure.train_on_batch(X[:20], LABELS[:20])
    spent.append(optimizer.epsilon(1e-3))
    assert optimizer.executed_steps == 12
    renewed = ks.optimizers.DPAdam(l2_norm_clip=2.0, noise_multiplier=5.0)
    secure.compile(renewed, loss=logits_loss())
    assert renewed.executed_steps == 12
    assert renewed.epsilon(1e-3) == pytest.approx(spent[-1], rel=1e-9)
    fit(secure)
    spent.append(renewed.epsilon(1e-3))
    assert spent == sorted(set(spent))
    phases = renewed.ledger.phases(17)
    assert [phase.steps for phase in phases] == [5, 5, 2, 5]
    assert [phase.l2_norm_clip for phase in phases] == [1, 1, 1, 2]


def test_seed_makes_training_repeatable_and_marked():
    weights = []
    for _ in range(2):
        keras.utils.set_random_seed(2)
        secure, optimizer = private(seed=9)
        fit(secure, epochs=2)
        weights.append(secure.get_weights())
    for first, second in zip(*weights, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)
    assert optimizer.ledger.phases(10)[0].reproducible


def test_budget_holds_inside_an_execution_of_several_steps():
    model = small()
    secure, optimizer = private(
        model, rate=1.0, noise_multiplier=2.0, options={"steps_per_execution": 8}
    )
    budget = PrivacyBudget(target_epsilon=0.8, target_delta=1e-3)
    history = fit(secure, epochs=8, batch_size=6, callbacks=[budget])
    assert optimizer.epsilon(1e-3) <= 0.8
    one_more = [*optimizer.ledger.phases(optimizer.executed_steps)]
    one_more[-1] = ks.privacy.Phase(
        **{**one_more[-1].__dict__, "steps": optimizer.executed_steps + 1}
    )
    assert ks.privacy.epsilon(one_more, 1e-3) > 0.8
    assert optimizer.executed_steps % 8  # the limit fell inside an execution
    assert history["epsilon"][-1] == optimizer.epsilon(1e-3)
    frozen = model.get_weights()
    optimizer.begin_phase(one_more[-1].sampling, 6)  # as the next fit would
    secure.train_function(iter([next(iter(endless(secure)))] * 8))
    for before, after in zip(frozen, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def endless(secure):
    """Batches as `fit` makes them."""
    rows = ks.privacy.physical_batch_size(60, 6)
    mask = tf.ones(rows, tf.bool)
    while True:
        yield {"x": tf.constant(X[:rows]), "y": tf.constant(LABELS[:rows]), "mask": mask}


def test_text_with_an_embedding():
    """Lookups have sparse gradients, which the check before the first step must read too."""
    x = np.random.default_rng(0).integers(0, 50, (64, 6)).astype("int32")
    y = (x[:, 0] < 25).astype("int32")
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(50, 4, mask_zero=True, embeddings_regularizer="l2"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    optimizer = ks.optimizers.DPAdam(l2_norm_clip=1.0, noise_multiplier=1.0)
    secure = ks.SecureModel(model)
    secure.compile(optimizer, loss="binary_crossentropy", metrics=["accuracy"])
    before = ops.convert_to_numpy(model.layers[0].embeddings)
    secure.fit(x, y, batch_size=16, verbose=0)
    assert optimizer.executed_steps == 4
    # Every row is noised: which words occurred must not show.
    changed = ops.convert_to_numpy(model.layers[0].embeddings) != before
    # A single value may come back to where it was by chance.
    assert changed.any(axis=1).all()
    assert changed.mean() > 0.95
