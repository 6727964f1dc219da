import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_secure import backend
from keras_secure.errors import InputError
from keras_secure.optimizers.clipping_optimizer import ClippingOptimizer

SHAPES = [(3, 4), (5,), ()]


def gradients(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return [(scale * rng.standard_normal(shape)).astype("float32") for shape in SHAPES]


def apply(optimizer, grads):
    """The gradients as SGD(1.0) got to see them."""
    variables = [keras.Variable(np.zeros(np.shape(gradient), "float32")) for gradient in grads]
    optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in grads], variables)
    return [-np.asarray(variable) for variable in variables]


def clipping(*args, **kwargs):
    return ClippingOptimizer(keras.optimizers.SGD(1.0), *args, **kwargs)


def norm(tensors):
    return float(np.sqrt(sum(np.square(tensor, dtype="float64").sum() for tensor in tensors)))


def truth(mode, grads, threshold):
    """Clipping as its definition says, in numpy and float64."""
    grads = [np.asarray(gradient, "float64") for gradient in grads]
    if mode == "value":
        return [np.clip(gradient, -threshold, threshold) for gradient in grads]
    norms = [norm([g]) if mode == "norm" else norm(grads) for g in grads]
    return [g * min(1.0, threshold / n) if n else g for g, n in zip(grads, norms, strict=True)]


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(["value", "norm", "global_norm"]),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([0.0, 1e-20, 1e-3, 1.0, 1e3, 1e25]),
    threshold=st.sampled_from([0.0, 0.1, 1.0, 100.0]),
)
def test_equals_the_definition(mode, seed, scale, threshold):
    grads = gradients(seed, scale)
    optimizer = clipping(mode, threshold)
    expected = truth(mode, grads, threshold)
    for actual, wanted in zip(apply(optimizer, grads), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=2e-6, atol=1e-37)
    np.testing.assert_allclose(optimizer.gradient_norm, norm(grads), rtol=2e-6, atol=1e-37)
    changed = any((np.asarray(w) != g).any() for g, w in zip(grads, expected, strict=True))
    if abs(norm(grads) - threshold) > 1e-5:
        assert optimizer.clipped_fraction == float(changed)


@pytest.mark.parametrize("percentile", [0.0, 10.0, 37.5, 50.0, 90.0, 100.0])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_percentile_is_that_of_the_window(percentile, jit_compile):
    optimizer = clipping("percentile", percentile=percentile, window=7)
    variables = [keras.Variable(np.zeros(shape, "float32")) for shape in SHAPES]
    optimizer.build(variables)
    step = backend.compiled(lambda g: optimizer.apply(g, variables), jit_compile=jit_compile)
    norms = []
    for seed in range(20):
        grads = gradients(seed, scale=1 + seed % 5)
        norms.append(norm(grads))
        before = [np.asarray(variable) for variable in variables]
        step([keras.ops.convert_to_tensor(gradient) for gradient in grads])
        threshold = np.percentile(norms[-7:], percentile)
        np.testing.assert_allclose(optimizer.clip_threshold, threshold, rtol=1e-6)
        moved = norm([b - np.asarray(v) for b, v in zip(before, variables, strict=True)])
        np.testing.assert_allclose(moved, min(norms[-1], threshold), rtol=1e-5)
    np.testing.assert_allclose(optimizer.gradient_norm, np.mean(norms), rtol=1e-5)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_broken_gradient_is_handed_on_and_leaves_no_trace_in_the_window(broken):
    optimizer, clean = (clipping("percentile", percentile=50, window=3) for _ in range(2))
    variables = [keras.Variable(np.zeros(shape, "float32")) for shape in SHAPES]
    twins = [keras.Variable(np.zeros(shape, "float32")) for shape in SHAPES]
    for seed in range(-1, 5):
        grads = gradients(max(seed, 0), scale=1 + seed)
        if seed in (-1, 2):
            bad = [gradient.copy() for gradient in grads]
            bad[0][0, 0] = broken
            saved = [np.asarray(variable) for variable in variables]
            optimizer.apply(bad, variables)
            assert not np.isfinite(np.asarray(variables[0])).all()
            np.testing.assert_allclose(np.asarray(variables[1]), saved[1] - bad[1], rtol=1e-6)
            for variable, value in zip(variables, saved, strict=True):
                variable.assign(value)
        if seed >= 0:
            optimizer.apply(grads, variables)
            clean.apply(grads, twins)
            assert optimizer.clip_threshold == clean.clip_threshold
    assert optimizer.gradient_norm == clean.gradient_norm
    assert optimizer.clipped_fraction < clean.clipped_fraction


def test_value_mode_clips_infinities():
    (moved,) = apply(clipping("value", 2.0), [np.array([np.inf, -np.inf, 1.0], "float32")])
    assert moved.tolist() == [2.0, -2.0, 1.0]


@pytest.mark.parametrize("mode", ["value", "norm", "global_norm"])
def test_rows_that_occur_twice_in_a_sparse_gradient_are_added_first(mode):
    table = keras.Variable(np.ones((6, 2), "float32"))
    rows = tf.constant([4, 1, 4, 4])
    sparse = tf.IndexedSlices(tf.ones((4, 2)), rows, dense_shape=tf.constant([6, 2]))
    dense = np.zeros((6, 2))
    dense[4], dense[1] = 3.0, 1.0
    optimizer = clipping(mode, 2.0)
    optimizer.apply([sparse], [table])
    moved = 1.0 - np.asarray(table)
    np.testing.assert_allclose(moved, truth(mode, [dense], 2.0)[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(optimizer.gradient_norm, norm([dense]), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_missing_gradients_and_overwritten_variables_are_left_alone():
    a, b, c = (keras.Variable([1.0, 1.0]) for _ in range(3))
    c.overwrite_with_gradient = True
    optimizer = clipping("global_norm", 1.0)
    optimizer.apply([keras.ops.array([3.0, 4.0]), None, keras.ops.array([30.0, 40.0])], [a, b, c])
    np.testing.assert_allclose(np.asarray(a), [0.4, 0.2], rtol=1e-6)
    assert np.asarray(b).tolist() == [1.0, 1.0]
    assert np.asarray(c).tolist() == [30.0, 40.0]
    assert optimizer.gradient_norm == 5.0


def test_loss_scale_factor_does_not_change_what_is_clipped():
    grads = gradients(3)
    scaled = ClippingOptimizer(
        keras.optimizers.SGD(1.0, loss_scale_factor=1024.0), "global_norm", 0.5
    )
    expected = apply(clipping("global_norm", 0.5), grads)
    actual = apply(scaled, [gradient * 1024 for gradient in grads])
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    np.testing.assert_allclose(scaled.gradient_norm, norm(grads), rtol=1e-6)
    assert float(scaled.scale_loss(1.0)) == 1024.0


def test_schedule_is_followed_inside_one_trace():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1, 3], [8.0, 4.0, 0.5])
    optimizer = clipping("global_norm", schedule)
    variable = keras.Variable([0.0, 0.0])
    optimizer.build([variable])
    traces = []

    def step(gradient):
        traces.append(1)
        optimizer.apply([gradient], [variable])

    compiled = backend.compiled(step, jit_compile=True)
    thresholds = []
    for _ in range(6):
        compiled(keras.ops.array([6.0, 8.0]))
        thresholds.append(optimizer.clip_threshold)
    assert thresholds == [8.0, 8.0, 4.0, 4.0, 0.5, 0.5]
    assert len(traces) == 1
    np.testing.assert_allclose(np.asarray(variable), -25.0 * np.array([0.6, 0.8]), rtol=1e-6)


def test_threshold_can_be_set_after_tracing():
    optimizer = clipping("global_norm", 1.0)
    variable = keras.Variable([0.0])
    optimizer.build([variable])
    step = backend.compiled(lambda gradient: optimizer.apply([gradient], [variable]))
    for threshold in (1.0, 0.25):
        optimizer.threshold = threshold
        step(keras.ops.array([10.0]))
    np.testing.assert_allclose(np.asarray(variable), [-1.25])
    scheduled = clipping("norm", keras.optimizers.schedules.ExponentialDecay(1.0, 1, 0.5))
    with pytest.raises(InputError, match="given by a schedule"):
        scheduled.threshold = 1.0


def test_stands_for_the_wrapped_optimizer():
    inner = keras.optimizers.Adam(0.1, beta_1=0.8, use_ema=True)
    optimizer = ClippingOptimizer(inner, "norm", 1.0)
    variable = keras.Variable([1.0, 2.0])
    assert int(optimizer.apply_gradients([(keras.ops.array([1.0, 0.0]), variable)])) == 1
    assert optimizer.variables == inner.variables
    assert optimizer.beta_1 == 0.8
    optimizer.learning_rate = 0.5
    assert float(inner.learning_rate) == 0.5
    variable.assign([9.0, 9.0])
    optimizer.finalize_variable_values([variable])
    assert not np.array_equal(np.asarray(variable), [9.0, 9.0])
    with pytest.raises(AttributeError):
        optimizer.no_such_hyperparameter  # noqa: B018


@pytest.mark.parametrize(
    "threshold", [0.5, keras.optimizers.schedules.ExponentialDecay(1.0, 10, 0.5)]
)
def test_compiles_into_a_model_that_saves_and_loads(threshold, tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(ClippingOptimizer(keras.optimizers.Adam(0.1), "norm", threshold), "mse")
    x, y = np.ones((8, 3), "float32"), np.ones((8, 2), "float32")
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is ClippingOptimizer
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for one in (model, loaded):
        one.fit(x, y, verbose=0, shuffle=False)
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_percentile_rule_survives_its_config():
    optimizer = clipping("percentile", percentile=75, window=9)
    clone = ClippingOptimizer.from_config(optimizer.get_config())
    assert clone.get_config() == optimizer.get_config()
    assert (clone.percentile, clone.window, clone.schedule) == (75.0, 9, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "l2", "threshold": 1.0}, "'value', 'norm', 'global_norm', 'percentile'"),
        ({"mode": "norm"}, "threshold=None"),
        ({"mode": "norm", "threshold": -1.0}, "at least 0"),
        ({"mode": "norm", "threshold": float("nan")}, "finite number"),
        ({"mode": "norm", "threshold": True}, "finite number"),
        ({"mode": "percentile", "threshold": 1.0}, "Leave it out"),
        ({"mode": "percentile", "percentile": 101}, "0 to 100"),
        ({"mode": "percentile", "window": 0}, "at least 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        clipping(**arguments)


@pytest.mark.parametrize("option", ["clipnorm", "clipvalue", "global_clipnorm"])
def test_an_optimizer_that_clips_is_refused(option):
    with pytest.raises(InputError, match=f"without {option}"):
        ClippingOptimizer(keras.optimizers.SGD(1.0, **{option: 1.0}), "norm", 1.0)


def test_an_unbuilt_optimizer_says_that_variables_are_missing():
    with pytest.raises(ValueError, match="must already be built"):
        clipping("norm", 1.0).apply([keras.ops.array([1.0])])
