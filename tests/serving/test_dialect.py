"""TensorFlow Serving's REST dialect, held against its definition value by value."""

import base64
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_secure.serving import dialect, dialect_examples
from keras_secure.serving.json_body import depth_of, parse_object
from keras_secure.serving.refusal import Refusal
from keras_secure.serving.tensors import DATA_TYPES, TensorSpec, read_tensor, write_tensor

X = {"x": TensorSpec("x", "float32", (None, 2))}
TWO = {
    "tag": TensorSpec("tag", "string", (None,)),
    "signal": TensorSpec("signal", "int32", (None, 3)),
}


def read(body, specs=X):
    text = json.dumps(body) if not isinstance(body, bytes) else body.decode()
    constants = "true" in text or "false" in text
    return dialect.read_predict(parse_object(text.encode(), 16), specs, constants)


def refused(body, specs=X):
    with pytest.raises(Refusal) as caught:
        read(body, specs)
    assert caught.value.status == 400
    return caught.value.message


def test_rows_and_columns_of_one_input_named_or_not():
    expected = np.array([[1, 2], [3, 4]], "float32")
    for body, row_format in [
        ({"instances": [[1, 2], [3, 4]]}, True),
        ({"instances": [{"x": [1, 2]}, {"x": [3, 4]}]}, True),
        ({"inputs": [[1, 2], [3, 4]]}, False),
        ({"inputs": {"x": [[1, 2], [3, 4]]}}, False),
        ({"inputs": {"x": [[1, 2], [3, 4]], "more": 1}}, False),
        ({"signature_name": "", "instances": [[1, 2], [3, 4]], "more": {}}, True),
    ]:
        request = read(body)
        assert request.row_format is row_format
        assert request.inputs["x"].dtype == "float32"
        np.testing.assert_array_equal(request.inputs["x"], expected)


def test_several_inputs_with_bytes():
    blob = b"\xff\x00image"
    encoded = {"b64": base64.b64encode(blob).decode()}
    rows = {
        "instances": [{"tag": "foo", "signal": [1, 2, 3]}, {"tag": encoded, "signal": [4, 5, 6]}]
    }
    columns = {"inputs": {"tag": ["foo", encoded], "signal": [[1, 2, 3], [4, 5, 6]]}}
    for body in (rows, columns):
        inputs = read(body, TWO).inputs
        assert inputs["tag"].tolist() == [b"foo", blob]
        assert inputs["signal"].tolist() == [[1, 2, 3], [4, 5, 6]]
    alone = {"tag": TWO["tag"]}
    assert read({"instances": [encoded]}, alone).inputs["tag"].tolist() == [blob]
    assert read({"instances": ["a", "b"]}, alone).inputs["tag"].tolist() == [b"a", b"b"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": [[1, 2]], "inputs": [[1, 2]]}, "only one of"),
        ({"instances": []}, "No values"),
        ({"instances": 1.0}, "list/array"),
        ({"instances": {"x": [1, 2]}}, "list/array"),
        ({"inputs": []}, "shape"),
        ({"instances": [[1, 2], [3]]}, "differ in length"),
        ({"instances": [[1, 2, 3]]}, "shape"),
        ({"instances": [1, 2]}, "shape"),
        ({"instances": [["1", 2]]}, "type"),
        ({"instances": [[None, 2]]}, "type"),
        ({"instances": [[True, 2]]}, "type"),
        ({"instances": [[1, {"b64": "AA=="}]]}, "type"),
        ({"instances": [[1, 2], {"x": [1, 2]}]}, "type|differ"),
        ({"instances": [{"x": [1, 2]}, [1, 2]]}, "element: 1"),
        ({"instances": [{"x": [1, 2], "y": 1}]}, "element: 0"),
        ({"inputs": {"y": [[1, 2]]}}, "Missing named input: x"),
        ({"instances": [[1e39, 2]]}, "range"),
        ({"instances": [[10**400, 2]]}, "type"),
    ],
)
def test_what_tensorflow_serving_refuses(body, message):
    import re

    assert re.search(message, refused(body))


def test_several_inputs_must_be_named():
    assert "list of objects" in refused({"instances": [1, 2]}, TWO)
    assert "expecting an object" in refused({"inputs": [1, 2]}, TWO)
    assert "base64" in refused({"instances": [{"b64": "@"}]}, {"tag": TWO["tag"]})


def test_numbers_that_are_none_in_json_are_numbers_here():
    x = read(b'{"instances": [[NaN, Infinity], [-Infinity, 1e-50]]}').inputs["x"]
    assert math.isnan(x[0, 0])
    assert x[0, 1] == math.inf
    assert x[1, 0] == -math.inf
    assert x[1, 1] == 0


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        ("int8", [-128, 127], [128, 1.0, True, "1"]),
        ("uint8", [0, 255], [-1, 256]),
        ("int64", [-(2**63), 2**63 - 1], [2**63, 0.5]),
        ("uint64", [0, 2**64 - 1], [2**64]),
        ("bool", [True, False], [0, 1, "true"]),
        ("float64", [1, 1e308], [True, "1"]),
        ("string", ["", "ü"], [1, True, None, {"b64": 1}]),
    ],
)
def test_each_type_takes_its_own_values(dtype, good, bad):
    specs = {"x": TensorSpec("x", dtype, (None,))}
    array = read({"instances": good}, specs).inputs["x"]
    expected = [item.encode() for item in good] if dtype == "string" else good
    assert array.tolist() == expected
    for value in bad:
        refused({"instances": [value]}, specs)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


def slow_depth(value):
    if isinstance(value, dict):
        return 1 + max((slow_depth(item) for item in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((slow_depth(item) for item in value), default=0)
    return 0


@given(JSON)
@settings(deadline=None, max_examples=200)
def test_depth_is_that_of_the_parsed_value(value):
    assert depth_of(json.dumps(value).encode()) == slow_depth(value)


@given(JSON)
@settings(deadline=None, max_examples=200)
def test_whatever_is_asked_is_read_or_refused(value):
    for key in ("instances", "inputs"):
        for specs in (X, TWO):
            try:
                request = read({key: value}, specs)
            except Refusal:
                continue
            assert request.rows > 0


def slow_tensor(value):
    """Nested lists as an array, one value at a time."""
    if isinstance(value, list):
        return np.stack([slow_tensor(item) for item in value]) if value else np.zeros(0)
    return np.float32(value)


@given(
    st.integers(1, 3).flatmap(
        lambda n: st.lists(
            st.lists(st.integers(-9, 9) | st.floats(width=32), min_size=n, max_size=n),
            min_size=1,
            max_size=4,
        )
    )
)
@settings(deadline=None, max_examples=100)
def test_reading_is_what_a_loop_over_values_gives(value):
    spec = TensorSpec("x", "float32", (None, None))
    np.testing.assert_array_equal(read_tensor(value, spec, False), slow_tensor(value))


def test_hostile_json_is_refused_quickly():
    for body in [
        b"",
        b"[]",
        b"1",
        b"{",
        b'{"a": 1} x',
        b'{"a": 1, "a": 2}',
        b"\xff\xfe{}",
        b'{"a": ' + b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"instances": ' + b"9" * 100_000 + b"}",
        b'"' * 1_000_000,
        b'{"\\"' * 300_000,
    ]:
        with pytest.raises(Refusal) as caught:
            parse_object(body, 16)
        assert caught.value.status == 400
        assert len(caught.value.message) < 300
    assert parse_object(b'{"a": "[[[[[[[[[[[[[[[[[[[[["}', 16)


def test_answers_in_both_formats():
    outputs = {"p": np.array([[0.1, 2], [3, 4]], "float32"), "r": np.array([True, False])}
    assert dialect.write_predict(outputs, True) == {
        "predictions": [{"p": [0.1, 2.0], "r": True}, {"p": [3.0, 4.0], "r": False}]
    }
    assert dialect.write_predict(outputs, False) == {
        "outputs": {"p": [[0.1, 2.0], [3.0, 4.0]], "r": [True, False]}
    }
    alone = {"p": outputs["p"]}
    assert dialect.write_predict(alone, True) == {"predictions": [[0.1, 2.0], [3.0, 4.0]]}
    assert dialect.write_predict(alone, False) == {"outputs": [[0.1, 2.0], [3.0, 4.0]]}


def test_text_and_bytes_are_told_apart_by_the_tensors_name():
    array = np.array([b"abc", b"\xff"], object)
    assert write_tensor("image_bytes", array) == [{"b64": "YWJj"}, {"b64": "/w=="}]
    assert write_tensor("label", array)[0] == "abc"


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
@settings(deadline=None, max_examples=100)
def test_written_floats_are_read_back_to_the_bit(values):
    array = np.array(values, "float32")
    written = json.loads(json.dumps(write_tensor("y", array)))
    np.testing.assert_array_equal(np.array(written, "float32"), array)
    assert all(len(repr(value)) <= 24 for value in written)


def test_classify_and_regress():
    spec = TensorSpec("x", "float32", (None, 2, 1))
    request = dialect_examples.read_examples(
        {
            "signature_name": "tensorflow/serving/classify",
            "examples": [{"x": [1, 2]}, {"x": [3, 4]}],
        },
        spec,
        "classify",
    )
    assert request.inputs["x"].tolist() == [[[1], [2]], [[3], [4]]]
    scores = np.array([[0.25, 0.75], [0, 0]], "float32")
    rejected = np.array([False, True])
    assert dialect_examples.write_classify(scores, rejected, ("no", "yes")) == {
        "results": [[["no", 0.25], ["yes", 0.75]], []]
    }
    results = dialect_examples.write_regress(np.array([[1.5], [0]], "float32"), rejected)["results"]
    assert results[0] == 1.5
    assert math.isnan(results[1])
    for body in [
        {},
        {"examples": []},
        {"examples": [1]},
        {"examples": [{"y": 1}]},
        {"examples": [{"x": [1]}]},
        {"examples": [{"x": [True, 1]}]},
        {"examples": [{"x": [1, 2]}], "context": {"x": [1, 2]}},
        {"examples": [{"x": [1, 2]}], "context": 1},
    ]:
        with pytest.raises(Refusal):
            dialect_examples.read_examples(body, spec, "classify")
    with pytest.raises(Refusal, match="no classifier"):
        dialect_examples.write_classify(np.zeros((2, 1), "float32"), None, ("",))
    with pytest.raises(Refusal, match="no regressor"):
        dialect_examples.write_regress(scores, None)


def test_status_and_metadata_are_what_clients_know():
    assert dialect.write_status({1: "END", 2: "AVAILABLE"})["model_version_status"][0] == {
        "version": "2",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    metadata = dialect.write_metadata("digits", 7, X, {"serving_default": X})
    assert metadata["model_spec"] == {"name": "digits", "signature_name": "", "version": "7"}
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert signature["inputs"]["x"]["tensor_shape"]["dim"][1] == {"size": "2", "name": ""}
    assert set(DATA_TYPES) > {"float32", "string", "bool"}
