"""What every regularizer of the package does, whatever it pushes a weight towards."""

import keras
import numpy as np

from keras_secure.registration import COMPONENTS


def run_regularizer_test(make, shape=(16, 48)):
    """Runs one regularizer through everything a user may do with it.

    Args:
        make: Builds the regularizer anew; called several times.
        shape: A weight's shape, rank 2, that it accepts.
    """
    check_value_and_gradient(make(), shape)
    check_modes_agree(make(), shape)
    check_dtypes(make(), shape)
    check_config(make(), shape)
    check_traced_once(make(), shape)
    for policy in ("float32", "mixed_float16", "mixed_bfloat16", "float16"):
        for jit_compile in (False, True) if policy == "float32" else (False,):
            check_fit(make(), shape, policy, jit_compile)


def weight(shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, shape).astype(dtype)


def check_value_and_gradient(regularizer, shape):
    values = weight(shape)
    value = regularizer(keras.ops.convert_to_tensor(values))
    assert tuple(value.shape) == ()
    assert np.isfinite(float(value))
    assert float(value) > 0
    for start in (values, np.zeros(shape, "float32")):
        variable = keras.Variable(start)
        slope = gradient(regularizer, variable)
        assert np.isfinite(slope).all()
        assert np.abs(slope).max() > 0, "the regularizer moves the weight"
    # Along its gradient the penalty falls: the slope is that of the value.
    step = 1e-3 / np.abs(gradient(regularizer, keras.Variable(values))).max()
    moved = values - step * gradient(regularizer, keras.Variable(values))
    assert float(regularizer(keras.ops.convert_to_tensor(moved))) < float(value)


def gradient(regularizer, variable):
    """The gradient, through one step of plain SGD so that no framework is named here."""
    start = keras.ops.convert_to_numpy(variable)
    layer = keras.layers.Layer()
    kernel = layer.add_weight(shape=start.shape, initializer="zeros", regularizer=regularizer)
    kernel.assign(start)
    layer.call = lambda inputs: inputs
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(keras.optimizers.SGD(1.0), loss=lambda y, p: 0.0 * keras.ops.sum(p))
    model.train_on_batch(np.zeros((1, 1)), np.zeros((1, 1)))
    return start - keras.ops.convert_to_numpy(kernel)


def check_modes_agree(regularizer, shape):
    values = weight(shape)
    eager = float(regularizer(keras.ops.convert_to_tensor(values)))
    for options in ({"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}):
        layer = keras.layers.Dense(shape[1], kernel_regularizer=regularizer)
        model = keras.Sequential([keras.Input((shape[0],)), layer])
        layer.kernel.assign(values)
        model.compile("sgd", loss=lambda y, p: 0.0 * keras.ops.sum(p), **options)
        loss = model.evaluate(np.zeros((2, shape[0])), np.zeros((2, shape[1])), verbose=0)
        np.testing.assert_allclose(loss, eager, rtol=1e-5)


def check_dtypes(regularizer, shape):
    exact = float(regularizer(keras.ops.convert_to_tensor(weight(shape))))
    for dtype in ("float16", "bfloat16", "float64"):
        value = regularizer(keras.ops.cast(weight(shape), dtype))
        np.testing.assert_allclose(float(value), exact, rtol=2e-2)


def check_config(regularizer, shape):
    assert f"watermark.{type(regularizer).__name__}" in COMPONENTS
    saved = keras.regularizers.serialize(regularizer)
    loaded = keras.regularizers.deserialize(saved)
    assert type(loaded) is type(regularizer)
    assert loaded.get_config() == regularizer.get_config()
    assert np.isfinite(float(loaded(keras.ops.convert_to_tensor(weight(shape)))))


class Counting(keras.regularizers.Regularizer):
    """Notes every call in Python, which a traced step makes once."""

    def __init__(self, regularizer, calls):
        self.regularizer, self.calls = regularizer, calls

    def __call__(self, x):
        self.calls.append(x)
        return self.regularizer(x)


def check_traced_once(regularizer, shape):
    calls = []
    layer = keras.layers.Dense(shape[1])
    model = keras.Sequential([keras.Input((shape[0],)), layer])
    layer.kernel.regularizer = Counting(regularizer, calls)
    model.compile(keras.optimizers.SGD(0.01), "mse")
    x, y = weight((8, shape[0]), seed=1), weight((8, shape[1]), seed=2)
    model.fit(x, y, batch_size=4, epochs=1, verbose=0)
    traced = len(calls)
    assert traced >= 1
    model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    assert len(calls) == traced, "the penalty is part of the graph and not run again in Python"


def check_fit(regularizer, shape, policy, jit_compile):
    layer = keras.layers.Dense(shape[1], kernel_regularizer=regularizer, dtype=policy)
    model = keras.Sequential([keras.Input((shape[0],)), layer])
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=jit_compile)
    before = keras.ops.convert_to_numpy(layer.kernel).astype("float32")
    x, y = weight((8, shape[0]), seed=1), weight((8, shape[1]), seed=2)
    history = model.fit(x, y, batch_size=4, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert np.abs(keras.ops.convert_to_numpy(layer.kernel).astype("float32") - before).max() > 0
