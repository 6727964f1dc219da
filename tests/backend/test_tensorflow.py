"""What the rooms above rely on, function by function."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_secure import backend
from keras_secure.errors import PrivacyError

KEY = np.array([2**62 + 1, -7], dtype="int64")


def key():
    return tf.constant(KEY)


def counter(value):
    return tf.constant(value, tf.int64)


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_normal_has_the_asked_for_shape(size):
    drawn = backend.normal(size, 1.0, key(), counter(0))
    assert drawn.shape == (size,)
    assert drawn.dtype == tf.float32
    assert np.isfinite(drawn).all()


def test_normal_is_a_pure_function_of_key_and_counter():
    first = backend.normal(64, 1.0, key(), counter(3))
    keras.utils.set_random_seed(99)
    np.random.default_rng().normal()
    tf.random.normal((3,))
    np.testing.assert_array_equal(backend.normal(64, 1.0, key(), counter(3)), first)
    graph = tf.function(lambda k, c: backend.normal(64, 1.0, k, c))
    np.testing.assert_allclose(graph(key(), counter(3)), first, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "other_counter"),
    [
        ((2**62 + 1, -7), 4),
        ((2**62 + 1, -7), -3),
        ((2**62 + 2, -7), 3),
        ((2**62 + 1, -6), 3),
        ((-7, 2**62 + 1), 3),
    ],
)
def test_normal_of_another_key_or_counter_shares_nothing(words, other_counter):
    first = backend.normal(256, 1.0, key(), counter(3)).numpy()
    other = backend.normal(256, 1.0, tf.constant(words, tf.int64), counter(other_counter)).numpy()
    assert np.intersect1d(first, other).size <= 1
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.3


def test_normal_scales_with_its_deviation():
    unit = backend.normal(64, 1.0, key(), counter(0)).numpy()
    scaled = backend.normal(64, tf.constant(2.5), key(), counter(0))
    np.testing.assert_allclose(scaled, 2.5 * unit, rtol=1e-6)
    assert not backend.normal(64, 0.0, key(), counter(0)).numpy().any()


def test_streamed_batches_have_static_shapes_and_arrive_in_order():
    def make():
        for step in range(3):
            yield {"x": np.full((4, 2), step, "float32"), "mask": np.ones(4, bool)}

    stream = backend.batch_stream(make, next(make()), 3)
    assert stream.element_spec["x"].shape == (4, 2)
    assert stream.element_spec["x"].dtype == tf.float32
    assert stream.element_spec["mask"].dtype == tf.bool
    assert len(stream) == 3
    for _ in range(2):
        assert [float(batch["x"][0, 0]) for batch in stream] == [0.0, 1.0, 2.0]


def test_a_streamed_batch_of_another_shape_is_refused():
    def make():
        yield np.zeros((4, 2), "float32")
        yield np.zeros((3, 2), "float32")

    with pytest.raises(tf.errors.InvalidArgumentError):
        list(backend.batch_stream(make, np.zeros((4, 2), "float32"), 2))


def test_gradients_of_what_took_part_and_none_of_what_did_not():
    used, unused = keras.Variable([1.0, 2.0]), keras.Variable([3.0])
    seen = {}

    def function():
        seen["inner"] = used.value * 3.0
        return tf.reduce_sum(seen["inner"] ** 2), "aux"

    value, aux, found = backend.gradients(function, lambda: [used, seen["inner"], unused])
    assert float(value) == 45.0
    assert aux == "aux"
    np.testing.assert_allclose(found[0], [18.0, 36.0])
    np.testing.assert_allclose(found[1], [6.0, 12.0])
    assert found[2] is None


@pytest.mark.parametrize("with_aux", [False, True])
def test_input_gradient(with_aux):
    x = np.array([[1.0, -2.0]], "float32")

    def function(x):
        total = tf.reduce_sum(x**3)
        return (total, x + 1) if with_aux else total

    result, gradient = backend.input_gradient(function, x)
    np.testing.assert_allclose(gradient, [[3.0, 12.0]])
    if with_aux:
        assert float(result[0]) == -7.0
        np.testing.assert_allclose(result[1], x + 1)
    else:
        assert float(result) == -7.0


def test_input_gradient_is_zero_where_the_input_does_not_matter():
    _, gradient = backend.input_gradient(lambda x: tf.constant(1.0), np.ones((2, 3), "float32"))
    np.testing.assert_array_equal(gradient, np.zeros((2, 3)))


def test_per_example_map_sees_one_example_at_a_time():
    x, scale = np.arange(12.0).reshape(3, 4), np.array([1.0, 10.0, 100.0])
    shapes = []

    def function(element):
        shapes.append(tuple(element["x"].shape))
        return tf.reduce_max(element["x"]) * element["scale"]

    found = backend.per_example_map(function, {"x": tf.constant(x), "scale": tf.constant(scale)})
    np.testing.assert_allclose(found, x.max(axis=1) * scale)
    assert set(shapes) == {(4,)}


def test_compiled_traces_once_for_one_signature():
    traces = itertools.count()
    function = backend.compiled(lambda x: (next(traces), x * 2)[1])
    for value in (1.0, 2.0, 3.0):
        assert float(function(tf.constant(value))) == 2 * value
    assert next(traces) == 1


def test_an_inner_tensor_is_told_from_an_outer_one():
    outer, inner = [], []

    def body(step):
        inner.append(step * 2)
        return step + 1

    @tf.function(autograph=False)
    def graph(x):
        y = x * 2
        tf.while_loop(lambda step: step < 3, body, [tf.constant(0)])
        outer.append(backend.is_outer_tensor(y))
        outer.append(backend.is_outer_tensor(inner[0]))
        return y

    graph(tf.constant(1.0))
    assert outer == [True, False]
    assert backend.is_outer_tensor(tf.constant(1.0))


def test_state_stays_out_of_the_model_and_is_read_by_a_compiled_step():
    class Counting(keras.layers.Layer):
        def build(self, shape):
            self.state = backend.state_variable(np.int64(5))

        def call(self, x):
            return x

    layer = Counting()
    layer(np.zeros((1, 2), "float32"))
    assert layer.variables == []
    step = backend.compiled(lambda: layer.state.assign_add(1))
    step()
    assert int(step()) == 7


def test_one_replica_reduces_to_itself():
    assert backend.replica_count() == 1
    values = backend.all_reduce_sum((tf.constant(1.0), tf.constant([2.0])))
    assert [value.numpy().tolist() for value in values] == [1.0, [2.0]]


def test_only_strategies_with_a_proven_noise_draw_are_taken():
    backend.check_distribution(None)
    backend.check_distribution(tf.distribute.get_strategy())
    backend.check_distribution(tf.distribute.OneDeviceStrategy("/cpu:0"))
    backend.check_distribution(tf.distribute.MirroredStrategy(["/cpu:0"]))

    class Unproven(tf.distribute.OneDeviceStrategy):
        pass

    with pytest.raises(PrivacyError, match=r"Unproven.*MirroredStrategy"):
        backend.check_distribution(Unproven("/cpu:0"))


def test_a_served_model_answers_by_name(tmp_path):
    weight = keras.Variable([[2.0], [3.0]], name="weight")
    described = backend.save_served_model(
        str(tmp_path / "served"),
        {
            "serving_default": lambda x: {
                "y": tf.matmul(x, weight.value),
                "any": tf.reduce_any(x > 0, axis=1),
            },
            "twice": lambda x: {"y": 2 * tf.matmul(x, weight.value)},
        },
        "x",
        (None, 2),
        "float32",
        [weight],
    )
    assert described == {
        "serving_default": {"y": ((None, 1), "float32"), "any": ((None,), "bool")},
        "twice": {"y": ((None, 1), "float32")},
    }
    serve, variables = backend.load_served_model(str(tmp_path / "served"), "serving_default")
    twice, _ = backend.load_served_model(str(tmp_path / "served"), "twice")
    assert twice({"x": np.ones((1, 2), "float32")})["y"].tolist() == [[10.0]]
    weight.assign([[0.0], [0.0]])
    answer = serve({"x": np.array([[1.0, 1.0], [0.0, -1.0]], "float32")})
    np.testing.assert_allclose(answer["y"], [[5.0], [-3.0]])
    assert answer["any"].tolist() == [True, False]
    (served,) = variables.values()
    np.testing.assert_array_equal(backend.host_array(served), [[2.0], [3.0]])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_a_variable_is_seen_without_a_copy(dtype):
    variable = keras.Variable(np.arange(6).reshape(2, 3), dtype=dtype, trainable=False)
    array = backend.host_array(variable)
    assert array.dtype.name == dtype
    np.testing.assert_array_equal(array.astype("float32"), np.arange(6).reshape(2, 3))
    assert backend.host_array(variable).ctypes.data == array.ctypes.data
