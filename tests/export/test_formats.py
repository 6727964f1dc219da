import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_secure import backend
from keras_secure.compression import prune, quantize, quantized_weights
from keras_secure.errors import InputError
from keras_secure.export import Smoothing, export_hardened, open_bundle
from keras_secure.export.formats import (
    litert_runner,
    onnx_runner,
    stored_compactly,
    write_onnx,
)
from keras_secure.export.formats.agreement import check_agreement
from keras_secure.export.formats.examples import generated_batches
from keras_secure.export.formats.litert_splice import read_model
from keras_secure.export.formats.packing import pack_blocks
from keras_secure.export.hardened_model import hardened_model
from keras_secure.export.saved_model import write_saved_model
from keras_secure.integrity import generate_key_pair, verify
from keras_secure.layers import FeatureSqueezing, InputGuard, OutputGuard

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("ai_edge_litert")

PRIVATE_KEY, PUBLIC_KEY = generate_key_pair()
WORKER = Path(__file__).parents[2] / "benchmarks" / "worker_runtime.py"
slow = pytest.mark.slow


def small_cnn():
    keras.utils.set_random_seed(5)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def export(model, path, **options):
    guards = {"input_guard": InputGuard((0.0, 1.0)), "output_guard": OutputGuard()}
    quick = {"formats": ("onnx", "litert"), "signatures": (), "warmup": ()}
    return export_hardened(model, path, **{**guards, **quick, **options})


def tiny():
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, activation="softmax", name="last")]
    )


@pytest.fixture(scope="module")
def trained(digits):
    x, y = digits
    model = small_cnn()
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(x[:1200], y[:1200], epochs=6, batch_size=64, verbose=0)
    return model


@pytest.fixture(scope="module")
def float_bundle(trained, tmp_path_factory):
    return export(trained, tmp_path_factory.mktemp("float") / "bundle", private_key=PRIVATE_KEY)


@pytest.fixture(scope="module")
def small(trained, digits):
    model = keras.models.clone_model(trained)
    model.set_weights(trained.get_weights())
    prune(model, 0.5)
    quantize(model, 8)
    return model


@pytest.fixture(scope="module")
def small_bundle(small, tmp_path_factory):
    return export(small, tmp_path_factory.mktemp("int8") / "bundle")


def hostile(x):
    x = x[:8].copy()
    x[0, 0, 0, 0], x[1, 3, 3, 0], x[2], x[3, 1, 2, 0] = np.nan, np.inf, -np.inf, 3e38
    x[4], x[5], x[6, 0, 0, 0] = np.nan, 7.0, -0.25
    return x


def runners(bundle):
    return (
        onnx_runner(bundle.path / "model.onnx"),
        litert_runner(bundle.path / "model.tflite"),
    )


def openvino_runner(path):
    openvino = pytest.importorskip("openvino")
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    model = openvino.Core().compile_model(str(path), "CPU", options)
    return lambda x: {next(iter(out.names)): value.copy() for out, value in model({"x": x}).items()}


def tensorflow_alone(paths, x, folder):
    """What SavedModels answer in a process without Keras."""
    np.save(folder / "x.npy", x)
    pairs = [(path, folder / f"{number}.npz") for number, path in enumerate(paths)]
    command = [sys.executable, WORKER, "tensorflow", "0", folder / "x.npy"]
    subprocess.run([*command, *sum(pairs, ())], check=True, capture_output=True)
    return [dict(np.load(answer)) for _, answer in pairs]


@pytest.mark.parametrize("runtime", ["tensorflow", "onnxruntime", "litert", "openvino"])
def test_every_runtime_answers_as_the_model_does(
    runtime, trained, small, float_bundle, small_bundle, digits, tmp_path
):
    x = digits[0][1200:]
    everything = np.concatenate([x, hostile(x)])
    paths = [float_bundle.path, small_bundle.path]
    if runtime == "tensorflow":
        both = tensorflow_alone([path / "saved_model" for path in paths], everything, tmp_path)
    else:
        runner, file = {
            "onnxruntime": (onnx_runner, "model.onnx"),
            "openvino": (openvino_runner, "model.onnx"),
            "litert": (litert_runner, "model.tflite"),
        }[runtime]
        both = [runner(path / file)(everything) for path in paths]
    rejects = np.array([True, True, True, False, True, False, False, False])
    for model, hardened in zip((trained, small), both, strict=True):
        predictions, rejected = hardened["predictions"], hardened["rejected"]
        expected = model.predict(x, verbose=0)
        np.testing.assert_allclose(predictions[: len(x)], expected, atol=1e-4)
        assert (predictions[: len(x)].argmax(-1) == expected.argmax(-1)).mean() >= 0.995
        assert rejected.tolist() == [False] * len(x) + rejects.tolist()
        predictions = predictions[len(x) :]
        assert not predictions[rejects].any()
        clipped = np.clip(hostile(x)[~rejects], 0, 1)
        np.testing.assert_allclose(
            predictions[~rejects], model.predict(clipped, verbose=0), atol=1e-4
        )


def test_the_card_and_the_signature_know_the_files(float_bundle):
    opened = open_bundle(float_bundle.path, PUBLIC_KEY)
    for name, file in (("onnx", "model.onnx"), ("litert", "model.tflite")):
        told = opened.card["formats"][name]
        assert told["file"] == file
        assert told["compared"]["examples"] > 40
        assert told["compared"]["largest_difference"] < 1e-5
    (float_bundle.path / "model.onnx").rename(float_bundle.path / "aside")
    assert "integrity" in " ".join(verify(float_bundle.path, PUBLIC_KEY).causes)
    (float_bundle.path / "aside").rename(float_bundle.path / "model.onnx")


def test_the_batch_is_variable_and_named(float_bundle):
    model = onnx.load(float_bundle.path / "model.onnx")
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    for runner in runners(float_bundle):
        for size in (1, 5, 2):
            answer = runner(np.zeros((size, 8, 8, 1), "float32"))
            assert answer["predictions"].shape == (size, 10)
            assert answer["rejected"].shape == answer["status"].shape == (size,)


@pytest.mark.parametrize("bits", [4, *(pytest.param(bits, marks=slow) for bits in (8, 2))])
def test_integers_stay_integers_on_the_disk(trained, tmp_path, bits, digits):
    model = keras.models.clone_model(trained)
    model.set_weights(trained.get_weights())
    quantize(model, bits)
    described = quantized_weights(model)
    assert len(described) == 3
    bundle = export(model, tmp_path / "bundle", output_guard=None)
    x = digits[0][:64]
    hardened = bundle.load()(x)["predictions"]
    np.testing.assert_allclose(hardened, model.predict(x, verbose=0), atol=1e-6)
    kind = onnx.TensorProto.INT8 if bits == 8 else onnx.TensorProto.INT4
    graph = onnx.load(bundle.path / "model.onnx").graph
    held = {i.name: onnx.numpy_helper.to_array(i).astype("int8") for i in graph.initializer
            if i.data_type == kind}  # fmt: skip
    from ai_edge_litert import schema_py_generated as schema

    lite = schema.ModelT.InitFromPackedBuf((bundle.path / "model.tflite").read_bytes(), 0)
    small = [t for t in lite.subgraphs[0].tensors if t.quantization and t.quantization.scale
             is not None and len(t.quantization.scale)]  # fmt: skip
    wanted = schema.TensorType.INT8 if bits == 8 else schema.TensorType.INT4
    assert [t.type for t in small] == [wanted] * 3
    assert len(held) == 3
    files = [p.read_bytes() for p in bundle.path.rglob("*") if p.is_file()]
    graph = (bundle.path / "saved_model" / "saved_model.pb").read_bytes()
    for weight in described.values():
        assert any(np.array_equal(weight.values, values) for values in held.values())
        assert any(t.shape is not None and np.prod(t.shape) == weight.values.size for t in small)
        packed = pack_blocks(weight.values, weight.bits)
        assert packed.nbytes == -(-weight.values.size * bits // 8)
        assert graph.count(packed.tobytes()) == 1
        # No float32 copy of it is left anywhere.
        assert not any(weight.kernel().tobytes()[:400] in file for file in files)


def test_integers_stay_in_variables_too(trained, tmp_path, digits):
    model = keras.models.clone_model(trained)
    model.set_weights(trained.get_weights())
    quantize(model, 2)
    hardened = hardened_model(model, None, None, (), None, None, None)
    write_saved_model(tmp_path, hardened, (), constant_weights=False)
    run, loaded = backend.load_served_model(str(tmp_path / "saved_model"), "serving_default")
    x = digits[0][:64]
    np.testing.assert_allclose(run({"x": x})["predictions"], model.predict(x, verbose=0), atol=1e-6)
    stored = {name: np.asarray(variable) for name, variable in loaded.items()}
    for path, weight in quantized_weights(model).items():
        (name,) = [n for n in stored if f"{path.replace('/', '.')}.integers" in n]
        np.testing.assert_array_equal(stored[name], pack_blocks(weight.values, weight.bits))


def test_a_folded_normalization_keeps_the_integers(small, small_bundle):
    from ai_edge_litert import schema_py_generated as schema

    lite = schema.ModelT.InitFromPackedBuf((small_bundle.path / "model.tflite").read_bytes(), 0)
    graph = lite.subgraphs[0]
    weight = next(iter(quantized_weights(small).values()))
    (tensor,) = [t for t in graph.tensors if list(t.shape if t.shape is not None else []) ==
                 [8, 3, 3, 1] and t.type == schema.TensorType.INT8]  # fmt: skip
    values = np.asarray(lite.buffers[tensor.buffer].data).view(np.int8).reshape(8, 3, 3, 1)
    values = values.astype(int)
    signs = np.sign((values * weight.values.transpose(3, 0, 1, 2)).sum(axis=(1, 2, 3)))
    assert np.array_equal(values * signs[:, None, None, None], weight.values.transpose(3, 0, 1, 2))


@pytest.mark.parametrize(
    "guard",
    [
        OutputGuard(round_to=2, top_k=3),
        pytest.param(OutputGuard(labels_only=True), marks=slow),
        pytest.param(OutputGuard(round_to=6), marks=slow),
    ],
)
def test_guards_and_defences_in_other_runtimes(trained, tmp_path, digits, guard):
    bundle = export(
        trained,
        tmp_path / "bundle",
        input_guard=InputGuard((0.0, 1.0), on_violation="reject"),
        defences=[FeatureSqueezing(4)],
        output_guard=guard,
    )
    x = np.concatenate([digits[0][:40], hostile(digits[0])])
    expected = bundle.load()(x)
    for run in runners(bundle):
        got = run(x)
        assert got["rejected"].tolist() == expected["rejected"].tolist()
        assert got["status"].tolist() == expected["status"].tolist()
        np.testing.assert_allclose(got["predictions"], expected["predictions"], atol=0.0101)


def test_activations_in_integers_between_guards_in_floats(trained, tmp_path, digits):
    bundle = export(
        trained,
        tmp_path / "bundle",
        formats=["litert"],
        input_guard=InputGuard((0.0, 1.0), on_violation="reject"),
        calibration=digits[0][:200],
    )
    told = bundle.card["formats"]["litert"]
    assert told["calibrated"]["examples"] == 200
    assert told["calibrated"]["same_class"] > 0.97
    x = digits[0][1200:]
    hardened = litert_runner(bundle.path / "model.tflite")(np.concatenate([x, hostile(x)]))
    plain = trained.predict(x, verbose=0)
    assert (hardened["predictions"][: len(x)].argmax(-1) == plain.argmax(-1)).mean() > 0.97
    # It is another model: an eighth of a bit is lost at every step.
    assert 1e-3 < np.abs(hardened["predictions"][: len(x)] - plain).max() < 0.3
    assert hardened["rejected"][len(x) :].tolist() == [True] * 7 + [False]
    lite = read_model((bundle.path / "model.tflite").read_bytes())
    kinds = {tensor.type for tensor in lite.subgraphs[0].tensors if len(tensor.shape) == 4}
    from ai_edge_litert import schema_py_generated as schema

    assert schema.TensorType.INT8 in kinds
    with pytest.raises(InputError, match="LiteRT files alone"):
        export(trained, tmp_path / "other", formats=["onnx"], calibration=x)
    with pytest.raises(InputError, match=r"calibration has shape \(8, 8\)"):
        export(trained, tmp_path / "other", formats=["litert"], calibration=x[0, :, :, 0])
    for wrong, message in ((x[:, :4], "calibration has shape"), (x * np.nan, "no finite numbers")):
        with pytest.raises(InputError, match=message):
            export(trained, tmp_path / "other", formats=["litert"], calibration=wrong)


def test_a_conversion_that_lets_nan_through_is_refused(tmp_path, monkeypatch):
    from tf2onnx.onnx_opset.controlflow import Select

    from keras_secure.backend.tensorflow import conversion

    def multiplying(context, node, name, args):
        Select.version_7(context, node)

    monkeypatch.setattr(conversion, "_select", multiplying)
    with pytest.raises(InputError, match=r"onnx file disagrees .* on generated hostile"):
        export(tiny(), tmp_path / "bundle")
    assert not os.listdir(tmp_path)


class LaxGuard(keras.layers.Layer):
    """Right as it stands; a converter makes a test of it that no NaN fails."""

    def violations(self, x):
        return keras.ops.any(keras.ops.logical_not(keras.ops.abs(x) <= 1e30), axis=-1)

    def call(self, x):
        return keras.ops.where(self.violations(x)[:, None], 0.0, x)


def test_a_converter_that_turns_a_comparison_round_is_found_out(tmp_path):
    with pytest.raises(InputError, match=r"disagrees .* in '(rejected|status)' on .*hostile"):
        export(tiny(), tmp_path / "bundle", input_guard=LaxGuard(), output_guard=None)
    assert not os.listdir(tmp_path)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A served model and a runner of its file."""
    model, folder = tiny(), tmp_path_factory.mktemp("judged")
    hardened = hardened_model(model, InputGuard((0.0, 1.0)), OutputGuard(), (), None, None, None)
    assert write_onnx(folder, hardened)["compared"]["examples"] > 40
    return hardened, onnx_runner(folder / "model.onnx")


@pytest.mark.parametrize("fault", ["flag", "value", "nan", "missing", "shape", "crash"])
def test_disagreement_is_found(judged, fault):
    hardened, run = judged

    def faulty(x):
        answer = {name: value.copy() for name, value in run(x).items()}
        if len(x) < 2:
            return answer
        if fault == "flag":
            answer["rejected"][-1] ^= True
        elif fault == "value":
            answer["predictions"][1, 2] += 5e-4
        elif fault == "nan":
            answer["predictions"][0, 0] = np.nan
        elif fault == "missing":
            del answer["rejected"]
        elif fault == "shape":
            answer["rejected"] = answer["rejected"][:, None]
        else:
            raise RuntimeError("no kernel")
        return answer

    with pytest.raises(InputError, match=r"disagrees|expected|fails on valid examples: no kernel"):
        check_agreement("onnx", faulty, hardened)


def test_generated_examples_cover_what_guards_promise():
    guard = InputGuard((-1.0, 3.0), on_violation="reject")
    hardened = hardened_model(tiny(), guard, None, (), None, None, None)
    batches = dict(generated_batches(hardened))
    assert all(batch.dtype == np.float32 for batch in batches.values())
    assert len(batches["one example"]) == 1
    assert len(batches["no examples"]) == 0
    assert not np.asarray(guard.violations(batches["valid examples"])).any()
    rows = batches["hostile examples"]
    for kind in (np.isnan, np.isposinf, np.isneginf):
        assert kind(rows).any()
    assert 0.3 < np.asarray(guard.violations(rows)).mean() < 1


class Best(keras.layers.Layer):
    def call(self, inputs):
        return keras.ops.one_hot(keras.ops.argmax(inputs, axis=-1), 4)


def test_what_a_format_cannot_hold_is_refused_by_name(tmp_path):
    odd = keras.Sequential([keras.Input((4,)), Best(name="best"), keras.layers.Dense(3)])
    noisy = tiny()
    plain = {"input_guard": None, "output_guard": None}
    with pytest.raises(InputError, match=r"ONNX has no operation for Bitcast \(.*best"):
        export_hardened(odd, tmp_path / "bundle", formats=["onnx"])
    with pytest.raises(InputError, match="LiteRT has no operation for BitwiseAnd"):
        export_hardened(odd, tmp_path / "bundle", formats=["litert"])
    for formats, name in (("onnx", "a str"), (["onnx", "torch"], "torch")):
        with pytest.raises(InputError, match=rf"formats=.*{name.split()[-1]}|formats='onnx'"):
            export_hardened(noisy, tmp_path / "bundle", formats=formats)
    with pytest.raises(InputError, match="smoothing draws new noise"):
        export(noisy, tmp_path / "bundle", smoothing=Smoothing(0.1, num_samples=8), **plain)
    assert not os.listdir(tmp_path)


def test_layers_that_litert_cannot_compute_are_named(tmp_path):
    wide = keras.Sequential([keras.Input((4,)), keras.layers.Dense(300, name="wide")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of the input layer
        wide.quantize("int8")
    bundle = export(wide, tmp_path / "onnx", output_guard=None, formats=["onnx"])
    steps = [node.op_type for node in onnx.load(bundle.path / "model.onnx").graph.node]
    assert "MatMulInteger" in steps
    half = keras.layers.Dense(3, name="half", dtype="mixed_float16")
    for model, message in (
        (wide, "'wide' was quantized by Keras"),
        (keras.Sequential([keras.Input((4,)), half]), "'half' computes in float16"),
    ):
        with pytest.raises(InputError, match=message):
            export(model, tmp_path / "litert", output_guard=None, formats=["litert"])
    assert os.listdir(tmp_path) == ["onnx"]


@slow
@pytest.mark.parametrize("kind", ["recurrent", "attention", "convolutions"])
def test_kinds_of_models(tmp_path, kind):
    layers = keras.layers
    if kind == "recurrent":
        model = keras.Sequential(
            [
                keras.Input((16, 12)),
                layers.Conv1D(8, 3, activation="relu"),
                layers.LayerNormalization(),
                layers.LSTM(6, unroll=True),
                layers.Dense(3, activation="softmax"),
            ]
        )
        looped = keras.Sequential([keras.Input((5, 3)), layers.LSTM(4), layers.Dense(2)])
        with pytest.raises(InputError, match="unroll=True"):
            export(looped, tmp_path / "looped", output_guard=None, formats=["litert"])
    elif kind == "attention":
        inputs = keras.Input((10, 16))
        x = layers.LayerNormalization()(layers.MultiHeadAttention(2, 8)(inputs, inputs) + inputs)
        x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling1D()(x))
        model = keras.Model(inputs, x)
    else:
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.SeparableConv2D(8, 3, depth_multiplier=2, activation="gelu"),
                layers.GroupNormalization(4),
                layers.Conv2DTranspose(4, 3),
                layers.UpSampling2D(),
                layers.GlobalMaxPooling2D(),
                layers.Dense(1, activation="sigmoid"),
            ]
        )
    for quantized in (False, True):
        if quantized:
            quantize(model, 8)
        bundle = export(model, tmp_path / f"{kind}{quantized}")
        for told in bundle.card["formats"].values():
            assert told["compared"]["largest_difference"] < 1e-5
    # What is quantized is held as integers, also where LiteRT orders the axes otherwise.
    lite = read_model((bundle.path / "model.tflite").read_bytes())
    scaled = [t for t in lite.subgraphs[0].tensors if t.quantization and
              t.quantization.scale is not None and len(t.quantization.scale)]  # fmt: skip
    assert len(scaled) == len(quantized_weights(model))


class Jittered(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, inputs, training=False):
        noise = keras.random.normal(keras.ops.shape(inputs), stddev=0.1, seed=self.seeds)
        return self.dense(inputs + noise)


def test_random_models_are_refused_and_stay_random_beside_stored_integers(tmp_path):
    model = Jittered()
    x = np.ones((4, 6), "float32")
    model(x)
    with pytest.raises(InputError, match="changes while the model is served"):
        export_hardened(model, tmp_path / "bundle", formats=["onnx"], input_shape=(6,))
    quantize(model, 4)
    serve = export_hardened(model, tmp_path / "bundle", input_shape=(6,)).load()
    first, second = serve(x)["predictions"], serve(x)["predictions"]
    assert not np.allclose(first, second)
    assert json.loads((tmp_path / "bundle" / "model_card.json").read_text())["formats"] == {}


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
def test_stored_kernels_are_bit_for_bit_the_model_s(bits):
    model = keras.Sequential(
        [
            keras.Input((9, 7, 3)),
            keras.layers.DepthwiseConv2D(3, depth_multiplier=2),
            keras.layers.Conv2D(5, (3, 2)),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    quantize(model, bits)
    stored = stored_compactly(model)
    assert len(stored.variables) == len(model.variables) + 3
    weights = quantized_weights(model)
    replaced = {v.path: kernel for v, kernel in zip(stored._replaced, stored._stored, strict=True)}
    assert set(replaced) == set(weights)
    for variable in model.variables:
        if variable.path in weights:
            np.testing.assert_array_equal(replaced[variable.path].read(), variable)
    x = np.random.default_rng(0).random((2, 9, 7, 3)).astype("float32")
    np.testing.assert_array_equal(stored(x), model(x))


@pytest.mark.parametrize("num_values", [3, 16, pytest.param(40, marks=slow)])
def test_few_values_are_stored_by_number(tmp_path, num_values):
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(30, name="last")])
    rng = np.random.default_rng(0)
    values = rng.normal(size=num_values).astype("float32")
    model.layers[0].kernel.assign(values[rng.integers(0, num_values, (40, 30))])
    hardened = hardened_model(model, None, None, (), None, None, None)
    stored = stored_compactly(model)
    np.testing.assert_array_equal(stored._stored[0].read(), model.layers[0].kernel)
    write_onnx(tmp_path, hardened)
    kinds = onnx.TensorProto
    initializers = onnx.load(tmp_path / "model.onnx").graph.initializer
    kind = kinds.UINT8 if num_values > 16 else kinds.UINT4
    assert [i.dims for i in initializers if i.data_type == kind] == [[40, 30]]
    write_saved_model(tmp_path, hardened, ())
    bits = {3: 2, 16: 4, 40: 8}[num_values]
    size = (tmp_path / "saved_model" / "saved_model.pb").stat().st_size
    assert size < 1200 * bits / 8 + 24_000
    kernel = model.layers[0].kernel.numpy().tobytes()
    assert kernel[:200] not in (tmp_path / "saved_model" / "saved_model.pb").read_bytes()


@pytest.mark.parametrize(
    ("package", "formats", "extra"),
    [("onnx", "onnx", "onnx"), ("tf2onnx", "onnx", "onnx"), ("ai_edge_litert.interpreter",
     "litert", "litert")],
)  # fmt: skip
def test_a_missing_package_is_named(tmp_path, monkeypatch, package, formats, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"keras-secure\[{extra}\]"):
        export(tiny(), tmp_path / "bundle", formats=[formats])
    assert not os.listdir(tmp_path)


def test_without_a_runtime_the_file_is_checked_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    bundle = export(tiny(), tmp_path / "bundle", formats=["onnx"])
    assert bundle.card["formats"]["onnx"]["compared"] is None


def test_integers_and_halves(tmp_path):
    tokens = keras.Sequential(
        [keras.Input((5,), dtype="int32"), keras.layers.Embedding(20, 4), keras.layers.Flatten(),
         keras.layers.Dense(3, activation="softmax")]
    )  # fmt: skip
    guard = InputGuard(bounds=(0, 19), on_violation="reject")
    bundle = export(tokens, tmp_path / "tokens", input_guard=guard)
    rows = np.array([[0, 1, 2, 3, 4], [0, 1, 2, 3, 20], [-1, 0, 0, 0, 0]], "int32")
    for run in runners(bundle):
        assert run(rows)["rejected"].tolist() == [False, True, True]


def test_tensors_that_a_layer_holds_outside_of_variables(tmp_path):
    """`Normalization` keeps the mean that it was adapted to as one."""
    normalize = keras.layers.Normalization()
    normalize.adapt(np.random.default_rng(0).random((20, 4)))
    model = keras.Sequential([keras.Input((4,)), normalize, keras.layers.Dense(3)])
    bundle = export(model, tmp_path / "bundle", output_guard=None)
    x = np.random.default_rng(1).random((5, 4)).astype("float32")
    for run in runners(bundle):
        np.testing.assert_allclose(run(x)["predictions"], model(x), atol=1e-5)


def test_one_number_for_each_example(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.ops.squeeze(keras.layers.Dense(1)(inputs), -1))
    bundle = export(model, tmp_path / "bundle", output_guard=None)
    x = np.random.default_rng(1).random((5, 4)).astype("float32")
    for run in runners(bundle):
        np.testing.assert_allclose(run(x)["predictions"], model(x), atol=1e-5)


def test_no_runtime_is_given_what_makes_it_abort_the_process(tmp_path, monkeypatch):
    layers = keras.layers
    model = keras.Sequential([keras.Input((None, 3)), layers.LSTM(4), layers.Dense(2)])
    sizes = []

    def watched(path):
        run = onnx_runner(path)

        def answer(x):
            sizes.append(len(x))
            assert len(x), "ONNX Runtime would abort here"
            return run(x)

        return answer

    monkeypatch.setattr("keras_secure.export.formats.onnx.onnx_runner", watched)
    bundle = export(model, tmp_path / "bundle", output_guard=None, formats=["onnx"])
    assert sizes
    assert 0 not in sizes
    compared = bundle.card["formats"]["onnx"]["compared"]
    assert "LSTM" in compared["no_examples"]
    assert compared["examples"] == sum(sizes)


def test_a_converter_that_fails_is_a_refusal(tmp_path):
    model = tiny()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras says that inputs cannot be quantized
        model.quantize("float8")
    with pytest.raises(InputError, match=r"ONNX cannot hold this model: .*float8.*Leave"):
        export(model, tmp_path / "bundle", formats=["onnx"])
    assert not os.listdir(tmp_path)
