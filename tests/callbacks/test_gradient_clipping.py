import subprocess
import sys

import keras
import numpy as np
import pytest
from harness_callbacks import run_callback_harness, small_model

from keras_secure.callbacks.gradient_clipping import GradientClipping
from keras_secure.errors import InputError, PrivacyError
from keras_secure.optimizers import DPOptimizer
from keras_secure.optimizers.clipping_optimizer import ClippingOptimizer
from keras_secure.training import SecureModel

LOGS = ("clip_threshold", "clipped_fraction", "gradient_norm")
RNG = np.random.default_rng(0)
X = RNG.standard_normal((24, 4)).astype("float32")
Y = RNG.standard_normal((24, 1)).astype("float32") * 10


def linear(optimizer="sgd", **options):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, activation="tanh"), keras.layers.Dense(1)]
    )
    model.compile(optimizer, loss="mse", **options)
    return model


def fit(model, *callbacks, epochs=2, batch_size=8, **options):
    return model.fit(
        X,
        Y,
        epochs=epochs,
        batch_size=batch_size,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
        **options,
    ).history


def assert_same_weights(one, other, rtol=1e-6):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-7)


@pytest.mark.parametrize(
    "arguments",
    [
        # Without state or schedule; they are held to the clip of Keras below, under XLA as well.
        pytest.param({"mode": "value", "threshold": 0.01}, marks=pytest.mark.slow),
        pytest.param({"mode": "norm", "threshold": 0.1}, marks=pytest.mark.slow),
        {"mode": "global_norm", "threshold": lambda step: 1.0 / (1 + step)},
        {"mode": "percentile", "percentile": 50, "window": 4},
    ],
    ids=lambda arguments: arguments["mode"],
)
def test_harness(arguments, digits, tmp_path):
    data = (digits[0][:24], digits[1][:24])
    run_callback_harness(lambda: GradientClipping(**arguments), data, tmp_path, logs=LOGS)


def test_a_threshold_that_is_never_reached_only_measures():
    measured, plain = linear(keras.optimizers.Adam(0.01)), linear(keras.optimizers.Adam(0.01))
    history = fit(measured, GradientClipping(threshold=1e30))
    fit(plain)
    for one, other in zip(measured.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert set(LOGS) <= set(history)
    assert history["clipped_fraction"] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("mode", "option"),
    [("value", "clipvalue"), ("norm", "clipnorm"), ("global_norm", "global_clipnorm")],
)
@pytest.mark.parametrize(
    ("optimizer", "jit_compile"), [(keras.optimizers.SGD, True), (keras.optimizers.AdamW, False)]
)
def test_trains_as_the_clip_of_keras_does(mode, option, optimizer, jit_compile):
    clipped, by_keras, plain = (
        linear(optimizer(0.1), jit_compile=jit_compile),
        linear(optimizer(0.1, **{option: 0.05})),
        linear(optimizer(0.1)),
    )
    history = fit(clipped, GradientClipping(mode, 0.05))
    fit(by_keras)
    fit(plain)
    assert_same_weights(clipped, by_keras, rtol=2e-5)
    assert history["clipped_fraction"] == [1.0, 1.0]
    with pytest.raises(AssertionError):
        assert_same_weights(clipped, plain)


def test_logged_norm_is_the_norm_of_the_gradient():
    model = linear(keras.optimizers.SGD(1.0))
    before = model.get_weights()
    history = fit(model, GradientClipping(threshold=1e30), epochs=1, batch_size=24)
    moved = [b - a for a, b in zip(before, model.get_weights(), strict=True)]
    norm = np.sqrt(sum((m.astype("float64") ** 2).sum() for m in moved))
    np.testing.assert_allclose(history["gradient_norm"], [norm], rtol=1e-5)
    assert history["clipped_fraction"] == [0.0]


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}], ids=str)
def test_percentile_threshold_is_that_of_the_logged_norms(options):
    history = fit(
        linear(keras.optimizers.SGD(0.05, momentum=0.95), **options),
        GradientClipping("percentile", percentile=30, window=5),
        epochs=12,
        batch_size=24,
    )
    norms = history["gradient_norm"]
    expected = [np.percentile(norms[max(0, i - 4) : i + 1], 30) for i in range(12)]
    np.testing.assert_allclose(history["clip_threshold"], expected, rtol=1e-5)
    clipped = [float(n > t * (1 + 1e-5)) for n, t in zip(norms, expected, strict=True)]
    assert history["clipped_fraction"] == clipped
    assert 0 < sum(clipped) < 12


def test_schedules_change_the_threshold_without_a_new_trace():
    traces = []

    class Counting(keras.layers.Dense):
        def call(self, inputs):
            traces.append(1)
            return super().call(inputs)

    in_graph = keras.optimizers.schedules.PiecewiseConstantDecay([3, 8], [4.0, 2.0, 1.0])
    asked = []

    def on_host(step):
        asked.append(step)
        return 4.0 if step <= 3 else 2.0 if step <= 8 else 1.0

    weights = []
    for schedule in (in_graph, on_host):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((4,)), Counting(1)])
        model.compile("sgd", loss="mse")
        traces.clear()
        history = fit(model, GradientClipping(threshold=schedule), epochs=4)
        assert history["clip_threshold"] == [4.0, 2.0, 2.0, 1.0]
        assert len(traces) == 1
        weights.append(model.get_weights())
    assert asked == list(range(12))
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_schedule_goes_on_in_a_second_fit():
    model = linear()
    callback = GradientClipping(threshold=lambda step: 1.0 + step)
    first, second = fit(model, callback), fit(model, callback)
    assert first["clip_threshold"] + second["clip_threshold"] == [3.0, 6.0, 9.0, 12.0]


def test_a_wrong_value_of_a_schedule_is_refused():
    with pytest.raises(InputError, match="returned nan at step 2"):
        fit(linear(), GradientClipping(threshold=lambda step: 1.0 if step < 2 else float("nan")))


def test_under_loss_scaling_the_unscaled_gradient_is_clipped():
    keras.config.set_dtype_policy("mixed_float16")
    histories = {}
    for name, options in {"mixed_float16": {}, "float32": {"dtype": "float32"}}.items():
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, **options)])
        optimizer = keras.optimizers.SGD(1.0)
        scaled = name == "mixed_float16"
        own = optimizer
        if scaled:
            own = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=16.0)
        model.compile(own, loss="mse", auto_scale_loss=False)
        before = model.get_weights()
        histories[name] = fit(model, GradientClipping(threshold=0.5), epochs=1, batch_size=24)
        assert model.optimizer is own
        assert not scaled or own.inner_optimizer is optimizer
        moved = [b - a for a, b in zip(before, model.get_weights(), strict=True)]
        np.testing.assert_allclose(np.sqrt(sum((m**2).sum() for m in moved)), 0.5, rtol=1e-3)
    np.testing.assert_allclose(
        histories["mixed_float16"]["gradient_norm"],
        histories["float32"]["gradient_norm"],
        rtol=1e-2,
    )


def test_steps_that_loss_scaling_skips_do_not_enter_the_window():
    keras.config.set_dtype_policy("mixed_float16")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01), initial_scale=16.0)
    model.compile(optimizer, loss="mse")
    x = X.copy()
    x[:8] = np.inf
    history = model.fit(
        x,
        Y,
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[GradientClipping("percentile", percentile=100)],
    ).history
    assert np.isfinite(history["gradient_norm"]).all()
    assert np.isfinite(history["clip_threshold"]).all()
    assert int(optimizer.iterations) == 4
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_broken_gradients_reach_terminate_on_nan():
    x = X.copy()
    x[10] = np.nan
    model = linear()
    history = model.fit(
        x,
        Y,
        batch_size=8,
        epochs=5,
        shuffle=False,
        verbose=0,
        callbacks=[GradientClipping(threshold=1.0), keras.callbacks.TerminateOnNaN()],
    ).history
    assert len(history["loss"]) == 1
    assert np.isfinite(history["gradient_norm"]).all()


def test_gradient_accumulation_clips_every_batch():
    def moves(optimizer, rows):
        model = linear(optimizer)
        before = model.get_weights()
        clip = GradientClipping(threshold=5.0)
        model.fit(X[rows], Y[rows], batch_size=8, shuffle=False, verbose=0, callbacks=[clip])
        return [b - a for a, b in zip(before, model.get_weights(), strict=True)]

    accumulated = moves(keras.optimizers.SGD(1.0, gradient_accumulation_steps=3), slice(24))
    one_by_one = [moves(keras.optimizers.SGD(1.0), slice(i, i + 8)) for i in (0, 8, 16)]
    for together, *alone in zip(accumulated, *one_by_one, strict=True):
        np.testing.assert_allclose(together, np.mean(alone, axis=0), rtol=1e-5, atol=1e-6)


def test_checkpoints_are_those_of_the_plain_model(tmp_path):
    def callbacks(folder):
        return [
            keras.callbacks.ModelCheckpoint(tmp_path / folder / "{epoch}.keras"),
            keras.callbacks.ModelCheckpoint(
                tmp_path / folder / "{epoch}.weights.h5", save_weights_only=True
            ),
        ]

    for folder, clip in (("clipped", GradientClipping(threshold=0.1)), ("plain", None)):
        (tmp_path / folder).mkdir()
        model = linear(keras.optimizers.Adam(0.01))
        fit(model, *([clip] if clip else []), *callbacks(folder))
        loaded = keras.models.load_model(tmp_path / folder / "2.keras")
        assert type(loaded.optimizer) is keras.optimizers.Adam
        assert_same_weights(loaded, model, rtol=0)
        for one, other in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    layouts = []
    for folder in ("clipped", "plain"):
        import h5py

        names = []
        with h5py.File(tmp_path / folder / "2.weights.h5") as file:
            file.visit(names.append)
        layouts.append(names)
    assert layouts[0] == layouts[1]


@pytest.mark.parametrize("clip_first", [True, False])
@pytest.mark.filterwarnings("error:Skipping variable loading")
def test_backup_and_restore_resumes_where_it_stopped(clip_first, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def callbacks():
        pair = [
            GradientClipping(threshold=0.5),
            keras.callbacks.BackupAndRestore(tmp_path / "backup"),
        ]
        return pair if clip_first else pair[::-1]

    straight = linear(keras.optimizers.Adam(0.05))
    fit(straight, GradientClipping(threshold=0.5), epochs=4)
    stopped = linear(keras.optimizers.Adam(0.05))
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, *callbacks(), Stop(), epochs=4)
    resumed = linear(keras.optimizers.Adam(0.05))
    fit(resumed, *callbacks(), epochs=4)
    assert int(resumed.optimizer.iterations) == 12
    assert_same_weights(resumed, straight)


def test_learning_rate_callbacks_reach_the_own_optimizer():
    model = linear(keras.optimizers.SGD(0.1))
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 * (epoch + 1))
    history = fit(model, GradientClipping(threshold=1.0), scheduler)
    assert float(model.optimizer.learning_rate) == np.float32(0.02)
    np.testing.assert_allclose(history["learning_rate"], [0.01, 0.02])


def test_moving_averages_work_on():
    clipped = linear(keras.optimizers.SGD(0.1, use_ema=True))
    by_keras = linear(keras.optimizers.SGD(0.1, use_ema=True, global_clipnorm=0.5))
    fit(clipped, GradientClipping(threshold=0.5), keras.callbacks.SwapEMAWeights())
    fit(by_keras, keras.callbacks.SwapEMAWeights())
    assert_same_weights(clipped, by_keras)


class Interrupt(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise KeyboardInterrupt


def test_after_an_interrupt_the_next_fit_does_not_clip_twice():
    model = linear(keras.optimizers.SGD(0.1))
    optimizer = model.optimizer
    with pytest.raises(KeyboardInterrupt):
        fit(model, GradientClipping(threshold=0.1), Interrupt())
    assert isinstance(model.optimizer, ClippingOptimizer)
    history = fit(model, GradientClipping(threshold=5.0))
    assert history["clip_threshold"] == [5.0, 5.0]
    assert model.optimizer is optimizer


def test_detach_after_an_interrupt():
    interrupted, plain = (linear(keras.optimizers.SGD(0.1)) for _ in range(2))
    optimizer = interrupted.optimizer
    callback = GradientClipping(threshold=0.0)
    with pytest.raises(KeyboardInterrupt):
        fit(interrupted, callback, Interrupt())
    callback.detach()
    callback.detach()
    assert interrupted.optimizer is optimizer
    fit(interrupted)
    fit(plain)
    assert_same_weights(interrupted, plain)


def test_two_in_one_fit_are_refused_and_leave_nothing():
    model = linear()
    optimizer = model.optimizer
    with pytest.raises(InputError, match="Two GradientClipping"):
        fit(model, GradientClipping(threshold=1.0), GradientClipping("value", 1.0))
    assert model.optimizer is optimizer


@pytest.mark.parametrize("option", ["clipnorm", "clipvalue", "global_clipnorm"])
def test_an_optimizer_that_clips_is_refused(option):
    model = linear(keras.optimizers.SGD(0.1, **{option: 1.0}))
    with pytest.raises(InputError, match=f"without {option}"):
        fit(model, GradientClipping(threshold=1.0))
    assert isinstance(model.optimizer, keras.optimizers.SGD)


def test_a_model_compiled_with_the_wrapper_is_refused_and_keeps_it():
    optimizer = ClippingOptimizer(keras.optimizers.SGD(0.1), "norm", 1.0)
    model = linear(optimizer)
    with pytest.raises(InputError, match="clips already"):
        fit(model, GradientClipping(threshold=1.0))
    assert model.optimizer is optimizer


def test_a_private_optimizer_is_refused():
    private = DPOptimizer(keras.optimizers.SGD(0.1), l2_norm_clip=1.0, noise_multiplier=1.0)
    for model in (linear(private), SecureModel(linear())):
        model.compile(private, loss="mse")
        with pytest.raises(PrivacyError, match="l2_norm_clip"):
            fit(model, GradientClipping(threshold=1.0))
        assert model.optimizer is private


def test_wrong_arguments_are_refused_when_it_is_made():
    for arguments, message in (
        ({}, "threshold=None"),
        ({"mode": "l2", "threshold": 1.0}, "mode='l2'"),
        ({"mode": "percentile", "threshold": 1.0}, "Leave it out"),
    ):
        with pytest.raises(InputError, match=message):
            GradientClipping(**arguments)


def test_works_on_a_secure_model():
    secure = SecureModel(linear())
    secure.compile(keras.optimizers.SGD(0.1), loss="mse")
    by_keras = linear(keras.optimizers.SGD(0.1, clipnorm=0.3))
    history = fit(secure, GradientClipping("norm", 0.3))
    fit(by_keras)
    assert_same_weights(secure.model, by_keras)
    assert history["clipped_fraction"] == [1.0, 1.0]


def test_an_exported_model_is_free_of_it(tmp_path, digits):
    model = small_model()
    model.fit(digits[0][:8], digits[1][:8], verbose=0, callbacks=[GradientClipping(threshold=1.0)])
    model.export(tmp_path / "served", verbose=False)
    served = keras.layers.TFSMLayer(tmp_path / "served", call_endpoint="serve")
    np.testing.assert_allclose(
        np.asarray(served(digits[0][:4])), model.predict(digits[0][:4], verbose=0), rtol=1e-5
    )


REPLICAS = """
import keras
import numpy as np
import tensorflow as tf

from keras_secure.callbacks.gradient_clipping import GradientClipping

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
x = np.random.default_rng(0).standard_normal((24, 4)).astype("float32")
y = 10 * x[:, :1] + x[:, 1:2] ** 2
results = []
for strategy in (tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), tf.distribute.get_strategy()):
    for mode in ({"mode": "norm", "threshold": 0.5}, {"mode": "percentile", "percentile": 40}):
        with strategy.scope():
            keras.utils.set_random_seed(1)
            model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
            model.compile(keras.optimizers.SGD(0.1), loss="mse")
        callback = GradientClipping(**mode)
        history = model.fit(
            x, y, batch_size=8, epochs=3, shuffle=False, verbose=0, callbacks=[callback]
        ).history
        results.append((model.get_weights(), {k: v for k, v in history.items() if k != "loss"}))
for (weights, logs), (expected_weights, expected_logs) in zip(results[:2], results[2:]):
    for one, other in zip(weights, expected_weights):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    for name, values in expected_logs.items():
        np.testing.assert_allclose(logs[name], values, rtol=1e-4)
"""


@pytest.mark.slow
def test_under_replicas_the_gradient_of_the_whole_batch_is_clipped():
    subprocess.run([sys.executable, "-c", REPLICAS], check=True, timeout=300)
