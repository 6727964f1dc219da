import keras
import numpy as np
import pytest
from harness_layers import run_layer_harness
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_secure import backend
from keras_secure.errors import InputError
from keras_secure.layers import InputGuard

X = np.random.default_rng(0).uniform(-0.5, 1.5, (4, 3, 5)).astype("float32")
X[1, 0, 0] = np.nan
X[2] = 0.5


@pytest.mark.parametrize("on_violation", ["clip", "reject", "flag"])
def test_harness(on_violation, tmp_path):
    arguments = {"bounds": [0.0, 1.0], "on_violation": on_violation, "tolerance": 1e-6}
    run_layer_harness(InputGuard, arguments, X, tmp_path, float16_dtype="float32")


def test_harness_on_token_ids(tmp_path):
    tokens = np.array([[0, 5, 9], [1, 2, 3], [-1, 4, 12]], "int32")
    run_layer_harness(InputGuard, {"bounds": [0, 9]}, tokens, tmp_path, float16_dtype="int32")


def reference(x, low, high, on_violation, tolerance=1e-6):
    """The contract, one example at a time."""
    rejected, out = [], []
    for row in x:
        bad = not np.isfinite(row).all()
        if on_violation == "reject" and not bad:
            wide = row.astype("float64")
            bad = bool(((wide < low - tolerance) | (wide > high + tolerance)).any())
        rejected.append(bad)
        out.append(np.full_like(row, low) if bad else np.clip(row, low, high))
    return np.array(out, x.dtype).reshape(x.shape), np.array(rejected, bool)


@settings(max_examples=60, deadline=None)
@given(
    x=hnp.arrays(
        "float32",
        st.tuples(st.integers(1, 4), st.integers(1, 3)),
        elements=st.one_of(
            # Subnormal numbers are flushed to zero by the hardware settings of TensorFlow.
            st.floats(width=32, allow_subnormal=False),
            st.floats(-2, 2, width=32, allow_subnormal=False),
            st.sampled_from([0.0, 1.0, -1.0]),
        ),
    ),
    bounds=st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (-3.0, -1.0)]),
    on_violation=st.sampled_from(["clip", "reject", "flag"]),
)
def test_equals_the_contract_row_by_row(x, bounds, on_violation):
    guard = InputGuard(bounds, on_violation)
    expected, rejected = reference(x, *bounds, on_violation)
    assert np.array_equal(np.asarray(guard(x)), expected)
    assert np.array_equal(np.asarray(guard.violations(x)), rejected)
    passed, accepted, flagged = guard.screen(keras.ops.convert_to_tensor(x))
    assert np.array_equal(np.asarray(passed), expected)
    assert np.array_equal(np.asarray(accepted), ~rejected)
    if on_violation == "flag":
        _, out_of_range = reference(x, *bounds, "reject")
        broken = ~np.isfinite(x).all(axis=1)
        assert np.array_equal(np.asarray(flagged)[~broken], out_of_range[~broken])
    else:
        assert flagged is None


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64"])
@pytest.mark.parametrize("on_violation", ["clip", "reject", "flag"])
def test_integers_keep_their_dtype(dtype, on_violation):
    info = np.iinfo(dtype)
    x = np.array([[3, 9], [info.min, 4], [5, info.max]], dtype)
    guard = InputGuard((2.5, 9), on_violation)
    out = np.asarray(guard(x))
    assert out.dtype == x.dtype
    if on_violation != "reject":
        assert out.tolist() == [[3, 9], [3, 4], [5, 9]]
        assert not np.asarray(guard.violations(x)).any()
    else:
        assert out.tolist() == [[3, 9], [3, 3], [3, 3]]
        assert np.asarray(guard.violations(x)).tolist() == [False, True, True]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_floats_keep_their_dtype(dtype):
    x = keras.ops.cast(X, dtype)
    for bounds in ((0.0, 1.0), (-1e6, 1e6)):
        out = InputGuard(bounds, "reject")(x)
        assert keras.backend.standardize_dtype(out.dtype) == dtype
        assert np.isfinite(np.asarray(keras.ops.cast(out, "float64"))).all()


def test_sees_values_before_a_lower_precision_makes_them_infinite():
    guard = InputGuard((0, 1), dtype="mixed_float16")
    x = np.array([[1e5, 0.5]], "float32")
    assert np.asarray(guard(x)).tolist() == [[1.0, 0.5]]
    assert not np.asarray(guard.violations(x)).any()


def test_a_bad_row_changes_no_other_row():
    good = np.random.default_rng(1).random((3, 4)).astype("float32")
    batch = np.insert(good, 1, np.nan, axis=0)
    out = np.asarray(InputGuard()(batch))
    assert np.array_equal(np.delete(out, 1, axis=0), good)
    assert np.array_equal(out[1], np.zeros(4))


def test_tolerance_separates_rounding_from_violation():
    x = np.array([[1.0 + 5e-7], [1.0 + 5e-6]], "float32")
    assert np.asarray(InputGuard(on_violation="reject").violations(x)).tolist() == [False, True]
    strict = InputGuard(on_violation="reject", tolerance=0.0)
    assert np.asarray(strict.violations(x)).tolist() == [True, True]
    assert np.asarray(InputGuard(on_violation="reject")(x)).tolist() == [[1.0], [0.0]]


@pytest.mark.parametrize("on_violation", ["clip", "reject", "flag"])
def test_gradient_is_finite_and_local(on_violation):
    x = np.array([[0.5, np.nan], [0.2, np.inf], [0.0, 1.0], [0.3, 2.0]], "float32")
    guard = InputGuard(on_violation=on_violation)
    _, gradient = backend.input_gradient(lambda t: keras.ops.sum(guard(t) ** 2 + guard(t)), x)
    last = [1.6, 0.0] if on_violation != "reject" else [0.0, 0.0]
    np.testing.assert_allclose(np.asarray(gradient), [[0, 0], [0, 0], [1, 3], last], rtol=1e-6)


def test_one_value_an_example_and_a_rejected_batch_of_none():
    guard = InputGuard(on_violation="reject")
    assert np.asarray(guard(np.array([0.5, np.nan, 3.0], "float32"))).tolist() == [0.5, 0.0, 0.0]
    assert np.asarray(guard.violations(np.zeros((0, 3), "float32"))).shape == (0,)


def test_violations_in_a_compiled_graph():
    guard = InputGuard(on_violation="reject")
    flags = backend.compiled(guard.violations, jit_compile=True)(keras.ops.convert_to_tensor(X))
    assert np.asarray(flags).tolist() == [True, True, False, True]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bounds": (1, 0)}, "low < high"),
        ({"bounds": 3}, "pair"),
        ({"bounds": (0, float("inf"))}, "finite"),
        ({"bounds": (float("nan"), 1)}, "finite"),
        ({"on_violation": "raise"}, "'clip', 'reject', 'flag'"),
        ({"tolerance": -1.0}, "at least 0"),
    ],
)
def test_wrong_arguments_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        InputGuard(**wrong)


def test_bounds_without_a_value_of_the_dtype_are_refused():
    with pytest.raises(InputError, match="no value in that range"):
        InputGuard((0.2, 0.8))(np.zeros((1, 2), "int32"))


def test_values_near_the_largest_number_are_finite():
    x = np.full((3, 1000), np.finfo("float32").max, "float32")
    x[1, 5] = np.inf
    assert np.asarray(InputGuard().violations(x)).tolist() == [False, True, False]
