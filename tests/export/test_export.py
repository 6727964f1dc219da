import json
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_secure.errors import InputError, IntegrityError
from keras_secure.export import export_hardened, harden, open_bundle, saved_model
from keras_secure.integrity import generate_key_pair, sign
from keras_secure.integrity import verify as verify_signature
from keras_secure.layers import InputGuard, OutputGuard
from keras_secure.training import SecureModel
from keras_secure.watermark import SpreadSpectrum, attach, verify

PRIVATE_KEY, PUBLIC_KEY = generate_key_pair()


def make_model(dtype="float32"):
    keras.utils.set_random_seed(2)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, activation="relu", dtype=dtype),
            keras.layers.BatchNormalization(dtype=dtype),
            keras.layers.Dropout(0.5, dtype=dtype),
            keras.layers.Flatten(dtype=dtype),
            keras.layers.Dense(10, activation="softmax", dtype=dtype),
        ]
    )


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def bundle(model, tmp_path_factory):
    return export_hardened(
        model,
        tmp_path_factory.mktemp("export") / "bundle",
        input_guard=InputGuard(bounds=(0.0, 1.0)),
        output_guard=OutputGuard(),
        private_key=PRIVATE_KEY,
        metadata={"data": "digits", "privacy": {"epsilon": 2.9}},
    )


@pytest.fixture
def x(digits):
    return digits[0][:16]


SERVE = """
import sys
sys.modules["keras"] = None  # tensorflow itself would import Keras; nothing of it may be needed
import numpy as np
import tensorflow as tf
serve = tf.saved_model.load("bundle/saved_model").signatures["serving_default"]
for name in ("x", "one", "hostile"):
    outputs = serve(tf.constant(np.load(name + ".npy")))
    np.savez(name + "_out.npz", **{key: value.numpy() for key, value in outputs.items()})
ours = [m for m in sys.modules if m.split(".")[0] in ("keras", "keras_secure", "tf_keras")]
assert ours == ["keras"] and sys.modules["keras"] is None, ours
"""


def test_the_saved_model_runs_on_tensorflow_alone(model, bundle, x, tmp_path):
    shutil.copytree(bundle.path, tmp_path / "bundle")
    hostile = x.copy()
    hostile[0, 0, 0, 0] = np.nan
    hostile[1, 3, 3, 0] = -np.inf
    hostile[2] = 7.0
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "one.npy", x[:1])
    np.save(tmp_path / "hostile.npy", hostile)
    subprocess.run(
        [sys.executable, "-c", SERVE], check=True, cwd=tmp_path, capture_output=True, text=True
    )
    expected = model.predict(x, verbose=0)
    for name, rows in (("x", 16), ("one", 1)):
        served = np.load(tmp_path / f"{name}_out.npz")
        np.testing.assert_allclose(served["predictions"], expected[:rows], atol=1e-5)
        assert served["rejected"].tolist() == [False] * rows
    served = np.load(tmp_path / "hostile_out.npz")
    assert served["rejected"].tolist() == [True, True] + [False] * 14
    assert np.all(served["predictions"][:2] == 0)
    clipped = model.predict(np.ones_like(x[:1]), verbose=0)
    np.testing.assert_allclose(served["predictions"][2:3], clipped, atol=1e-5)
    np.testing.assert_allclose(served["predictions"][3:], expected[3:], atol=1e-5)


def test_open_verify_load(model, bundle, x):
    opened = open_bundle(str(bundle.path), PUBLIC_KEY)
    assert opened == bundle
    serve = opened.load()
    np.testing.assert_allclose(
        serve(x.astype("float64"))["predictions"], model.predict(x, verbose=0), atol=1e-5
    )
    assert serve(x[:0])["predictions"].shape == (0, 10)
    with pytest.raises(InputError, match=r"\(any, 8, 8, 1\) was expected"):
        serve(x[0])
    with pytest.raises(InputError, match="float32 was expected"):
        serve(x.astype(str))


def test_the_card(bundle):
    card = json.loads((bundle.path / "model_card.json").read_text())
    assert card == bundle.card
    assert card["inputs"] == {"x": {"shape": [None, 8, 8, 1], "dtype": "float32"}}
    assert card["outputs"] == {
        "predictions": {"shape": [None, 10], "dtype": "float32"},
        "rejected": {"shape": [None], "dtype": "bool"},
        "status": {"shape": [None], "dtype": "int32"},
    }
    assert set(card["signatures"]) == {"serving_default", "labels", "probabilities", "batch_status"}
    assert card["num_classes"] == 10
    assert card["guards"]["input"]["class"] == "InputGuard"
    assert card["guards"]["input"]["config"]["bounds"] == [0.0, 1.0]
    assert any("clipped" in promise for promise in card["promises"])
    assert set(card["versions"]) == {"keras_secure", "keras", "tensorflow"}
    assert card["metadata"] == {"data": "digits", "privacy": {"epsilon": 2.9}}


def test_every_file_of_the_bundle_is_signed(bundle, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(bundle.path, copy)
    assert sorted(os.listdir(copy)) == [
        "bom.json", "model.sig", "model_card.json", "saved_model",
    ]  # fmt: skip
    files = sorted(p for p in copy.rglob("*") if p.is_file() and p.stat().st_size)
    assert len(files) >= 6
    for path in files:
        original = path.read_bytes()
        middle = len(original) // 2
        path.write_bytes(original[:middle] + bytes([original[middle] ^ 4]) + original[middle + 1 :])
        name = path.relative_to(copy).as_posix()
        cause = (
            "signature file|signed statement" if name == "model.sig" else f"'{name}' was changed"
        )
        with pytest.raises(IntegrityError, match=cause):
            open_bundle(copy, PUBLIC_KEY)
        path.write_bytes(original)
    opened = open_bundle(copy, PUBLIC_KEY)
    (copy / "saved_model" / "saved_model.pb").write_bytes(b"changed after opening")
    with pytest.raises(IntegrityError, match=r"saved_model\.pb' was cut"):
        opened.load()


def test_only_the_trusted_key_opens(bundle):
    with pytest.raises(IntegrityError, match="which is not trusted"):
        open_bundle(bundle.path, generate_key_pair()[1])
    with pytest.raises(InputError, match="no trust file"):
        open_bundle(bundle.path, bundle.path / "model_card.json")


def test_reject_and_coarse_labels(model, x, tmp_path):
    bundle = export_hardened(
        model,
        tmp_path / "strict",
        input_guard=InputGuard(bounds=(0.0, 1.0), on_violation="reject"),
        output_guard=OutputGuard(labels_only=True),
    )
    hostile = x.copy()
    hostile[4, 0, 0, 0] = 1.5
    served = bundle.load()(hostile)
    assert np.flatnonzero(served["rejected"]).tolist() == [4]
    expected = [0.0 if n == 4 else 1.0 for n in range(16)]
    assert served["predictions"].sum(axis=-1).tolist() == expected
    kept = np.arange(16) != 4
    np.testing.assert_array_equal(
        served["predictions"].argmax(-1)[kept], model.predict(x, verbose=0).argmax(-1)[kept]
    )
    assert not (tmp_path / "strict" / "model.sig").exists()
    assert verify_signature(tmp_path / "strict", PUBLIC_KEY).causes == ("integrity.unsigned",)


def test_without_guards_a_nan_answer_is_rejected_and_the_rest_is_kept(tmp_path):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation="softmax")])
    rows = np.random.default_rng(0).random((4, 6)).astype("float32")
    expected = model.predict(rows, verbose=0)
    rows[2, 0] = np.nan
    served = export_hardened(model, tmp_path / "bare").load()(rows)
    assert served["rejected"].tolist() == [False, False, True, False]
    expected[2] = 0
    np.testing.assert_allclose(served["predictions"], expected, atol=1e-5)


def test_half_precision_and_integers(tmp_path, x):
    half = make_model("mixed_float16")
    served = export_hardened(half, tmp_path / "half", output_guard=OutputGuard()).load()(x)
    assert served["predictions"].dtype == np.float32
    np.testing.assert_allclose(served["predictions"], half.predict(x, verbose=0), atol=2e-3)
    tokens = keras.Sequential(
        [keras.Input((5,), dtype="int32"), keras.layers.Embedding(20, 4), keras.layers.Flatten(),
         keras.layers.Dense(3)]
    )  # fmt: skip
    bundle = export_hardened(
        tokens, tmp_path / "tokens", input_guard=InputGuard(bounds=(0, 19), on_violation="reject")
    )
    rows = np.array([[0, 1, 2, 3, 4], [0, 1, 2, 3, 20]])
    assert bundle.load()(rows)["rejected"].tolist() == [False, True]
    with pytest.raises(InputError, match="int32 was expected"):
        bundle.load()(rows / 2)


@pytest.mark.parametrize("constant_weights", [True, False])
def test_weights_are_constants_or_variables(model, x, tmp_path, constant_weights):
    bundle = export_hardened(model, tmp_path / "bundle", constant_weights=constant_weights)
    np.testing.assert_allclose(
        bundle.load()(x)["predictions"], model.predict(x, verbose=0), atol=1e-5
    )
    index = bundle.saved_model / "variables" / "variables.index"
    assert (b"VARIABLE_VALUE" in index.read_bytes()) != constant_weights
    if constant_weights:
        with pytest.raises(InputError, match="constants of its graph"):
            bundle.load(check_weights=0.1)
    else:
        assert bundle.load(check_weights=0.1)(x)["status"].tolist() == [0] * 16


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.noise = keras.layers.GaussianNoise(0.1, seed=1)
        self.dense = keras.layers.Dense(3)
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, inputs, training=False):
        jitter = keras.random.normal((1,), seed=self.seeds)
        return self.dense(self.noise(inputs, training=training)) + 0.0 * jitter


def test_whole_numbers_never_become_others_on_their_way_to_the_guard(tmp_path):
    """Cut to the 32 bits of the model, 2**32 + 5 would be 5, which the guard takes for valid."""
    tokens = keras.Sequential([keras.Input((2,), dtype="int32"), keras.layers.Embedding(20, 3)])
    guard = InputGuard((0, 19), on_violation="reject")
    serve = export_hardened(tokens, tmp_path / "bundle", input_guard=guard, warmup=()).load()
    for wrong in (np.array([[2**32 + 5, 1]]), np.array([[2**63 + 5, 1]], "uint64")):
        with pytest.raises(InputError, match="which int32 does not hold"):
            serve(wrong)
    assert serve(np.array([[5, 1], [20, 1]]))["rejected"].tolist() == [False, True]
    assert serve(np.zeros((0, 2), "int64"))["rejected"].shape == (0,)
    for wrong, message in (([[1], [2, 3]], "no array"), ({"x": [[1, 2]]}, "Got a dict")):
        with pytest.raises(InputError, match=message):
            serve(wrong)


def test_a_subclassed_model_with_random_state(tmp_path):
    model = Subclassed()
    with pytest.raises(InputError, match="not built"):
        export_hardened(model, tmp_path / "bundle")
    rows = np.random.default_rng(0).random((4, 6)).astype("float32")
    expected = keras.ops.convert_to_numpy(model(rows))
    with pytest.raises(InputError, match="input_shape"):
        export_hardened(model, tmp_path / "bundle")
    served = export_hardened(model, tmp_path / "bundle", input_shape=(6,)).load()(rows)
    np.testing.assert_allclose(served["predictions"], expected, atol=1e-5)
    with pytest.raises(InputError, match="changes while the model is served"):
        export_hardened(model, tmp_path / "constant", input_shape=(6,), constant_weights=True)


def test_the_keras_file_is_there_only_when_asked_for(model, x, tmp_path):
    bundle = export_hardened(
        model, tmp_path / "bundle", private_key=PRIVATE_KEY, include_keras=True
    )
    assert open_bundle(bundle.path, PUBLIC_KEY).card == bundle.card
    loaded = keras.models.load_model(bundle.path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize("failing", ["save_served_model", "make_card", "sign"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full")])
@pytest.mark.parametrize("existing", [False, True])
def test_an_interruption_leaves_what_was_there(
    model, bundle, tmp_path, monkeypatch, failing, error, existing
):
    target = tmp_path / "home" / "bundle"
    if existing:
        shutil.copytree(bundle.path, target)

    def fail(*args, **kwargs):
        if failing == "save_served_model":
            os.makedirs(args[0])
        raise error

    owner = saved_model.backend if failing == "save_served_model" else harden
    monkeypatch.setattr(owner, failing, fail, raising=False)
    if failing != "save_served_model":
        told = {"serving_default": {"predictions": ((None, 2), "float32")}}
        quick = lambda path, *args: os.makedirs(path) or told  # noqa: E731
        monkeypatch.setattr(saved_model.backend, "save_served_model", quick, raising=False)
    with pytest.raises(type(error) if isinstance(error, OSError) else error):
        export_hardened(model, target, private_key=PRIVATE_KEY, overwrite=True)
    if existing:
        assert os.listdir(tmp_path / "home") == ["bundle"]
        assert verify_signature(target, PUBLIC_KEY).ok
    else:
        assert not os.listdir(tmp_path)


def test_existing_folders(model, bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    export_hardened(model, tmp_path / "empty", private_key=PRIVATE_KEY)
    assert verify_signature(tmp_path / "empty", PUBLIC_KEY).ok
    with pytest.raises(InputError, match="not empty and was kept"):
        export_hardened(model, tmp_path / "empty")
    other, other_key = generate_key_pair()
    export_hardened(model, tmp_path / "empty", private_key=other, overwrite=True)
    assert verify_signature(tmp_path / "empty", other_key).ok
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "2026.txt").write_text("dear diary")
    with pytest.raises(InputError, match="other than a bundle"):
        export_hardened(model, tmp_path / "diary", overwrite=True)
    with pytest.raises(InputError, match="file or a link"):
        export_hardened(model, tmp_path / "diary" / "2026.txt", overwrite=True)
    with pytest.raises(InputError, match="cannot be made"):
        export_hardened(model, tmp_path / "diary" / "2026.txt" / "bundle")
    assert (tmp_path / "diary" / "2026.txt").read_text() == "dear diary"
    assert sorted(os.listdir(tmp_path)) == ["diary", "empty"]


@pytest.mark.parametrize(
    ("metadata", "where"),
    [
        ([1], "metadata is a list"),
        ({"a": {"b": [1, np.zeros(2)]}}, r"metadata\['a'\]\['b'\]\[1\] is array"),
        ({"a": float("nan")}, r"metadata\['a'\] is nan"),
        ({1: "a"}, "has the key 1"),
        ({"a": np.float32(1)}, "float32"),
        ({"a": b"bytes"}, "bytes"),
    ],
)
def test_metadata_that_json_cannot_hold(model, tmp_path, metadata, where):
    with pytest.raises(InputError, match=where):
        export_hardened(model, tmp_path / "bundle", metadata=metadata)
    assert not os.listdir(tmp_path)


def test_metadata_that_contains_itself(model, tmp_path):
    metadata: dict = {}
    metadata["again"] = metadata
    with pytest.raises(InputError, match="contains itself"):
        export_hardened(model, tmp_path / "bundle", metadata=metadata)


class TwoOutputs(keras.Model):
    def call(self, inputs):
        return inputs, inputs


def spelled():
    table = keras.layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")
    return keras.Sequential([keras.Input((1,), dtype="string"), table, keras.layers.Dense(2)])


def remembering():
    memory = keras.layers.LSTM(2, stateful=True, name="memory")
    return keras.Sequential([keras.Input((3, 2), batch_size=1), memory])


def test_what_cannot_be_exported(model, tmp_path):
    pair = TwoOutputs()
    pair(np.zeros((1, 3)))
    with pytest.raises(InputError, match="returns a tuple"):
        export_hardened(pair, tmp_path / "bundle", input_shape=(3,))
    one, two = keras.Input((3,)), keras.Input((3,))
    joined = keras.Model([one, two], keras.layers.Add()([one, two]))
    for options, message in [
        ({"model": joined}, "2 inputs"),
        ({"model": keras.layers.Dense(3)}, "keras.Model was expected"),
        ({"input_guard": (0, 1)}, "input_guard is a tuple"),
        ({"input_guard": OutputGuard()}, r"without the method violations"),
        ({"output_guard": "round"}, "output_guard is a str"),
        ({"private_key": PUBLIC_KEY}, "private key"),
        ({"path": None}, "path is None"),
        ({"path": "a\0b"}, "path of a folder"),
        ({"input_dtype": "float999"}, "dtype 'float999' cannot be guarded"),
        ({"model": spelled()}, "Text is looked up in tables"),
        ({"model": remembering()}, "'memory' keeps its state"),
        ({"input_shape": 8}, "input_shape is 8"),
        ({"input_shape": (8, -8, 1)}, "input_shape is"),
        ({"input_shape": (9, 8, 1)}, "takes examples of shape"),
        ({"signatures": 3}, "signatures=3"),
        ({"formats": None}, "formats=None"),
        ({"warmup": [[[1], [2, 3]]]}, "warmup holds"),
        ({"facts": {"licence": "MIT"}}, "facts is a dict"),
    ]:
        with pytest.raises(InputError, match=message):
            export_hardened(**{"model": model, "path": tmp_path / "bundle", **options})
    assert not os.listdir(tmp_path)


def test_a_signed_folder_that_is_no_bundle(tmp_path):
    sign(tmp_path, PRIVATE_KEY)
    with pytest.raises(InputError, match="not a bundle"):
        open_bundle(tmp_path, PUBLIC_KEY)
    (tmp_path / "model_card.json").write_text('{"format": "other"}')
    sign(tmp_path, PRIVATE_KEY)
    with pytest.raises(IntegrityError, match="not a model card"):
        open_bundle(tmp_path, PUBLIC_KEY)


def test_a_secure_model_is_exported_as_the_model_inside(model, x, tmp_path):
    bundle = export_hardened(SecureModel(model), tmp_path / "bundle")
    np.testing.assert_allclose(
        bundle.load()(x)["predictions"], model.predict(x, verbose=0), atol=1e-5
    )
    assert bundle.card["name"] == model.name


def test_a_watermark_s_secret_stays_out_of_the_bundle(tmp_path):
    model = make_model()
    mark = SpreadSpectrum("a key nobody guesses", message="hidden!!", margin=1.0)
    attach(model.layers[-1], mark)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(np.zeros((8, 8, 8, 1)), np.zeros(8), epochs=20, verbose=0)
    assert verify(model.layers[-1], mark).message_matches
    bundle = export_hardened(
        model, tmp_path / "bundle", private_key=PRIVATE_KEY, include_keras=True
    )
    contents = b"".join(path.read_bytes() for path in bundle.path.rglob("*") if path.is_file())
    assert model.layers[-1].kernel.numpy().tobytes() in contents, "the search finds what is there"
    carrier, shares = mark._cache[tuple(model.layers[-1].kernel.shape), 0]
    secrets = (b"a key nobody", b"hidden!!", carrier[:16].tobytes(), shares[:16].tobytes())
    assert not any(secret in contents for secret in secrets)
    assert PRIVATE_KEY.private_bytes_raw() not in contents
