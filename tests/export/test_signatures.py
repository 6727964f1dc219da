import struct
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_secure.errors import InputError
from keras_secure.export import Smoothing, Status, export_hardened
from keras_secure.layers import FeatureSqueezing, InputGuard, MedianSmoothing, OutputGuard


def linear(classes=3):
    """Probabilities that a test can work out: softmax of 4 inputs through a known kernel."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(classes)])
    model.set_weights([np.eye(4, classes, dtype="float32") * 8, np.zeros(classes, "float32")])
    return model


ROWS = np.array(
    [
        [0.9, 0.1, 0.1, 0.0],  # ok, class 0
        [0.1, 0.9, 1.7, 0.0],  # out of range, class 2 once clipped
        [0.1, np.nan, 0.1, 0.0],  # rejected
        [0.5, 0.5, 0.5, 0.0],  # a third each: not confident
        [0.1, 0.9, 0.1, 0.0],  # ok, class 1
    ],
    "float32",
)


def soft(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return export_hardened(
        linear(),
        tmp_path_factory.mktemp("signatures") / "bundle",
        input_guard=InputGuard((0.0, 1.0), on_violation="flag"),
        output_guard=OutputGuard(from_logits=True, min_confidence=0.5),
    )


def test_every_example_has_its_status_in_every_signature(bundle):
    assert set(bundle.card["signatures"]) == {
        "serving_default", "labels", "probabilities", "batch_status",
    }  # fmt: skip
    expected = [Status.OK, Status.FLAGGED, Status.REJECTED, Status.ABSTAINED, Status.OK]
    probabilities = soft(np.clip(np.nan_to_num(ROWS), 0, 1)[:, :3] * 8)
    probabilities[[2, 3]] = 0
    for name in bundle.card["signatures"]:
        answer = bundle.load(signature=name)(ROWS)
        assert answer["status"].tolist() == expected
        assert answer["status"].dtype == np.int32
        for output in ("predictions", "probabilities"):
            if output in answer:
                np.testing.assert_allclose(answer[output], probabilities, atol=1e-6)
        if "rejected" in answer:
            assert answer["rejected"].tolist() == [False, False, True, False, False]
    assert bundle.load(signature="labels")(ROWS)["label"].tolist() == [0, 2, -1, -1, 1]
    counts = bundle.load(signature="batch_status")(ROWS)["batch_status"]
    assert counts.tolist() == [2, 1, 1, 1, 0]
    assert bundle.card["status_codes"] == {status.name.lower(): int(status) for status in Status}


def test_no_examples_are_no_crash(bundle):
    for name, outputs in bundle.card["signatures"].items():
        answer = bundle.load(signature=name)(ROWS[:0])
        for output, spec in outputs.items():
            expected = [0 if size is None else size for size in spec["shape"]]
            assert list(answer[output].shape) == expected, (name, output)
    with pytest.raises(InputError, match=r"no signature 'nothing'; it has 'batch_status'"):
        bundle.load(signature="nothing")


class Failing(keras.layers.Layer):
    def call(self, inputs):
        # A root that is none below a half.
        return keras.ops.sqrt(inputs - 0.5)


def test_a_model_that_fails_is_told_from_an_input_that_is_rejected(tmp_path):
    model = keras.Sequential([keras.Input((2,)), Failing()])
    bundle = export_hardened(model, tmp_path / "bundle", input_guard=InputGuard())
    rows = np.array([[0.6, 0.7], [0.2, 0.7], [np.inf, 0.7]], "float32")
    answer = bundle.load()(rows)
    assert answer["status"].tolist() == [Status.OK, Status.FAILED, Status.REJECTED]
    assert answer["rejected"].tolist() == [False, True, True]
    assert not answer["predictions"][1:].any()


def test_a_single_output_and_logits_without_a_guard(tmp_path):
    model = linear(1)
    rows = np.array([[0.9, 0, 0, 0], [-0.9, 0, 0, 0]], "float32")
    bundle = export_hardened(model, tmp_path / "logits")
    assert set(bundle.card["signatures"]) == {"serving_default", "batch_status"}
    names = ("labels", "probabilities")
    bundle = export_hardened(model, tmp_path / "asked", signatures=names)
    assert set(bundle.card["signatures"]) == {"serving_default", *names}
    assert bundle.load(signature="labels")(rows)["label"].tolist() == [1, 0]
    np.testing.assert_allclose(
        bundle.load(signature="probabilities")(rows)["probabilities"],
        1 / (1 + np.exp(-8 * rows[:, :1])),
        rtol=1e-5,
    )


def test_one_label_is_not_told_of_a_model_with_several(tmp_path):
    for units, end in ((3, keras.layers.Activation("sigmoid")), (3, keras.layers.Softmax()),
                       (1, keras.layers.Activation("sigmoid"))):  # fmt: skip
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units), end])
        bundle = export_hardened(model, tmp_path / "bundle", warmup=(), overwrite=True)
        one = units == 1 or isinstance(end, keras.layers.Softmax)
        assert ("labels" in bundle.card["signatures"]) is one
        assert "probabilities" in bundle.card["signatures"]


@pytest.mark.parametrize("from_logits", [False, True])
def test_a_model_that_gives_one_number_for_each_example(tmp_path, from_logits):
    """Then the last axis is the batch, and no example is judged beside the others."""
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(1, use_bias=False)(inputs)
    outputs = keras.layers.Reshape(())(outputs if from_logits else keras.ops.sigmoid(outputs))
    model = keras.Model(inputs, outputs)
    model.set_weights([np.eye(4, 1, dtype="float32") * 8])
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=from_logits))
    rows = np.array([[0.9, 0, 0, 0], [-0.9, 0, 0, 0], [0.1, 0, 0, 0]], "float32")
    bundle = export_hardened(model, tmp_path / "bundle", signatures=("labels", "probabilities"))
    assert bundle.load(signature="labels")(rows)["label"].tolist() == [1, 0, 1]
    found = bundle.load(signature="probabilities")(rows)["probabilities"]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-8 * rows[:, 0])), rtol=1e-5)


def test_defences_stand_between_guard_and_model(tmp_path):
    model = keras.Sequential(
        [keras.Input((5, 5, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    x = np.random.default_rng(0).random((6, 5, 5, 1)).astype("float32") * 1.5
    x[1, 2, 2] = np.nan
    defences = [FeatureSqueezing(2), MedianSmoothing(3)]
    bundle = export_hardened(
        model, tmp_path / "bundle", input_guard=InputGuard(), defences=defences
    )
    answer = bundle.load()(x)
    squeezed = np.round(np.clip(np.nan_to_num(x), 0, 1) * 3) / 3
    padded = np.pad(squeezed, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    windows = [padded[:, i : i + 5, j : j + 5] for i in range(3) for j in range(3)]
    expected = model.predict(np.median(windows, axis=0), verbose=0)
    kept = np.arange(6) != 1
    np.testing.assert_allclose(answer["predictions"][kept], expected[kept], atol=1e-5)
    assert answer["status"].tolist() == [0, 1, 0, 0, 0, 0]
    assert [each["class"] for each in bundle.card["guards"]["defences"]] == [
        "FeatureSqueezing", "MedianSmoothing",
    ]  # fmt: skip
    assert bundle.load()(x[:0])["predictions"].shape == (0, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"defences": FeatureSqueezing(2)}, "list of layers"),
        ({"defences": ["median"]}, "holds a str"),
        ({"defences": [keras.layers.Dense(7)]}, r"into float32 of shape \(None, 7\)"),
        ({"signatures": ["everything"]}, "give some of 'serving_default'"),
        ({"signatures": "labels"}, "give some of"),
        ({"signatures": ["certified"]}, "Give smoothing too"),
        (
            {"signatures": ["probabilities"], "output_guard": OutputGuard(labels_only=True)},
            "tells labels only",
        ),
        ({"smoothing": 0.25}, "Smoothing was expected"),
        (
            {"smoothing": Smoothing(0.1), "output_guard": OutputGuard(from_logits=True)},
            "shares of votes",
        ),
        ({"warmup": 3}, "list of batch sizes"),
        ({"warmup": [0]}, "at least 1"),
        ({"warmup": [np.zeros((2, 5))]}, "arrays of shape"),
    ],
)
def test_what_does_not_fit_is_refused(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        export_hardened(linear(), tmp_path / "bundle", **options)
    assert not any(tmp_path.iterdir())


def records(data):
    """The contents of a TFRecord file: length, its checksum, contents, their checksum."""
    while data:
        (length,) = struct.unpack_from("<Q", data)
        yield data[12 : 12 + length]
        data = data[16 + length :]


def fields(message):
    """Number and contents of each field of a protocol buffer message of strings and messages."""
    position = 0
    while position < len(message):
        tag, length = message[position], message[position + 1]
        assert tag & 7 == 2
        assert length < 128
        yield tag >> 3, message[position + 2 : position + 2 + length]
        position += 2 + length


def test_warm_up_requests_name_every_signature(tmp_path):
    bundle = export_hardened(linear(), tmp_path / "bundle", warmup=(1, np.ones((2, 4))))
    path = bundle.saved_model / "assets.extra" / "tf_serving_warmup_requests"
    seen = []
    for record in records(path.read_bytes()):
        # PredictionLog.predict_log, PredictLog.request, PredictRequest.model_spec and inputs.
        ((number, log),) = fields(record)
        ((inner, request),) = fields(log)
        assert (number, inner) == (6, 1)
        parts = dict(fields(request))
        spec, entry = dict(fields(parts[1])), dict(fields(parts[2]))
        assert spec[1].decode() == bundle.card["name"]
        assert entry[1] == b"x"
        seen.append((spec[3].decode(), len(entry[2])))
    assert [name for name, _ in seen] == ["serving_default"] * 2 + ["batch_status"] * 2
    none = export_hardened(linear(), tmp_path / "none", warmup=())
    assert not (none.saved_model / "assets.extra").exists()


READ = """
import sys
from tensorflow_serving.apis import prediction_log_pb2
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
for record in tf.data.TFRecordDataset(sys.argv[1] + "/assets.extra/tf_serving_warmup_requests"):
    log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
    request = log.predict_log.request
    x = tf.make_ndarray(request.inputs["x"])
    answer = loaded.signatures[request.model_spec.signature_name](x=tf.constant(x))
    print(request.model_spec.signature_name, x.shape, sorted(answer))
"""


@pytest.mark.slow
def test_tensorflow_serving_s_own_messages_read_the_warm_up(bundle):
    pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api")
    run = subprocess.run(
        [sys.executable, "-c", READ, str(bundle.saved_model)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "labels (1, 4) ['label', 'status']" in run.stdout
    assert len(run.stdout.splitlines()) == 4
