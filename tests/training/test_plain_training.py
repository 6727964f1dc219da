"""SecureModel without privacy trains exactly as Keras does."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_secure as ks

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 6)).astype("float32")
LABELS = RNG.integers(0, 3, 50).astype("int32")
TARGETS = RNG.normal(size=(50, 2)).astype("float32")
WEIGHTS = RNG.uniform(size=50).astype("float32")
ONE = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}


def sequential(**options):
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, "relu", **options),
            layers.BatchNormalization(),
            layers.Dense(3, "softmax", dtype="float32"),
        ]
    )


def functional():
    one, two = keras.Input((6,), name="one"), keras.Input((6,), name="two")
    hidden = layers.Dense(5, "tanh")(layers.Concatenate()([one, two]))
    outputs = {
        "kind": layers.Dense(3, "softmax", name="kind")(hidden),
        "size": layers.Dense(2, name="size")(hidden),
    }
    return keras.Model({"one": one, "two": two}, outputs)


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.last = layers.Dense(8, "relu"), layers.Dense(3, "softmax")

    def call(self, inputs, training=False):
        return self.last(self.hidden(inputs))


def frozen():
    model = sequential()
    model.layers[0].trainable = False
    return model


MULTI = {
    "loss": {"kind": "sparse_categorical_crossentropy", "size": "mse"},
    "loss_weights": {"kind": 0.3, "size": 2.0},
    "metrics": {"kind": ["accuracy"], "size": ["mae"]},
}


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        rows = slice(10 * index, 10 * index + 10)
        return X[rows], LABELS[rows], WEIGHTS[rows]


def dataset():
    return tf.data.Dataset.from_tensor_slices((X, LABELS)).batch(16)


# name: (model, compile options, positional arguments of fit, options of fit, tolerance)
CASES = {
    "sequential": (sequential, ONE, (X, LABELS), {}, 1e-6),
    "functional": (
        functional,
        MULTI,
        ({"one": X, "two": X[::-1].copy()}, {"kind": LABELS, "size": TARGETS}),
        {},
        1e-6,
    ),
    "subclassed": (Subclassed, ONE, (X, LABELS), {}, 1e-6),
    "sample_weight": (
        sequential,
        {**ONE, "weighted_metrics": ["accuracy"], "metrics": None},
        (X, LABELS),
        {"sample_weight": WEIGHTS},
        1e-6,
    ),
    "class_weight": (
        sequential,
        ONE,
        (X, LABELS),
        {"class_weight": {0: 1.0, 1: 3.0, 2: 0.2}},
        1e-6,
    ),
    "validation_data": (
        sequential,
        ONE,
        (X, LABELS),
        {"validation_data": (X[:9], LABELS[:9])},
        1e-6,
    ),
    "validation_split": (sequential, ONE, (X, LABELS), {"validation_split": 0.3}, 1e-6),
    "dataset": (sequential, ONE, (dataset(),), {"validation_data": dataset()}, 1e-6),
    "py_dataset": (sequential, ONE, (Batches(),), {}, 1e-6),
    "several_steps": (sequential, {**ONE, "steps_per_execution": 3}, (X, LABELS), {}, 1e-6),
    "jit": (sequential, {**ONE, "jit_compile": True}, (X, LABELS), {}, 1e-5),
    "eager": (sequential, {**ONE, "run_eagerly": True}, (X[:20], LABELS[:20]), {}, 1e-6),
    "float16": (sequential, ONE, (X, LABELS), {}, 1e-3),
    "frozen": (frozen, ONE, (X, LABELS), {}, 1e-6),
    "regularized": (
        lambda: sequential(kernel_regularizer="l2", activity_regularizer="l1"),
        ONE,
        (X, LABELS),
        {},
        1e-6,
    ),
    "sum": (
        sequential,
        {"loss": keras.losses.SparseCategoricalCrossentropy(reduction="sum")},
        (X, LABELS),
        {},
        1e-6,
    ),
}


def train(wrap, build, compile_options, data, fit_options):
    keras.utils.set_random_seed(3)
    inner = build()
    model = ks.SecureModel(inner) if wrap else inner
    compile_options = {"jit_compile": False, **compile_options}
    model.compile(optimizer=keras.optimizers.Adam(0.01), **compile_options)
    options = {"epochs": 2, "verbose": 0, "shuffle": False, **fit_options}
    if not hasattr(data[0], "element_spec") and not isinstance(data[0], keras.utils.PyDataset):
        options["batch_size"] = 16
    history = model.fit(*data, **options).history
    return inner, model, history


@pytest.mark.parametrize("name", CASES)
def test_weights_and_history_are_those_of_keras(name):
    if name == "float16":
        keras.config.set_dtype_policy("mixed_float16")
    *case, tolerance = CASES[name]
    plain, keras_model, expected = train(False, *case)
    inner, secure, history = train(True, *case)
    for ours, theirs in zip(inner.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    assert list(history) == list(expected)
    for key, values in expected.items():
        np.testing.assert_allclose(history[key], values, rtol=10 * tolerance, atol=10 * tolerance)
    assert type(secure.optimizer) is type(keras_model.optimizer)
    if name == "float16":
        assert type(secure.optimizer) is keras.optimizers.LossScaleOptimizer


def test_one_trace_over_epochs_fits_and_batches():
    traces = []

    class Counter(layers.Layer):
        def call(self, inputs):
            traces.append(inputs)
            return inputs

    model = keras.Sequential([keras.Input((6,)), Counter(), layers.Dense(3, "softmax")])
    secure = ks.SecureModel(model)
    secure.compile("sgd", **ONE)
    traces.clear()
    secure.fit(X[:48], LABELS[:48], batch_size=16, epochs=3, verbose=0)
    first = len(traces)
    secure.fit(X[:48], LABELS[:48], batch_size=16, epochs=3, verbose=0)
    assert first <= 2
    assert len(traces) == first


def test_predict_and_evaluate_are_those_of_the_inner_model():
    inner, secure, _ = train(True, *CASES["sequential"][:-1])
    np.testing.assert_allclose(secure.predict(X, verbose=0), inner.predict(X, verbose=0), rtol=1e-6)
    loss, accuracy = secure.evaluate(X, LABELS, verbose=0)
    inner.compile("sgd", **ONE)
    np.testing.assert_allclose([loss, accuracy], inner.evaluate(X, LABELS, verbose=0), rtol=1e-5)


def test_train_on_batch_is_that_of_keras():
    results = []
    for wrap in (False, True):
        keras.utils.set_random_seed(1)
        model = ks.SecureModel(sequential()) if wrap else sequential()
        model.compile("sgd", **ONE)
        results.append([model.train_on_batch(X, LABELS) for _ in range(3)])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5)


def test_what_cannot_be_wrapped_is_refused():
    with pytest.raises(ks.errors.InputError, match=r"wraps a keras.Model, but got Dense"):
        ks.SecureModel(layers.Dense(2))
    with pytest.raises(ks.errors.InputError, match=r"already a SecureModel.*\.model"):
        ks.SecureModel(ks.SecureModel(sequential()))
    with pytest.raises(ks.errors.InputError, match=r"objective is a str"):
        ks.SecureModel(sequential(), objective="trades")
    secure = ks.SecureModel(sequential())
    secure.compile("sgd")
    with pytest.raises(ks.errors.InputError, match="with a loss before fit"):
        secure.fit(X, LABELS, verbose=0)
