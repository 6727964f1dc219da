import base64
import marshal

import pytest

CODE = base64.b64encode(marshal.dumps((lambda x: x + 1).__code__)).decode()


def layer(name, config=None, module="keras.layers", **more):
    return {"module": module, "class_name": name, "config": config or {}, **more}


def function(name, module="builtins", registered="function"):
    return {
        "module": module,
        "class_name": "function",
        "config": name,
        "registered_name": registered,
    }


def test_a_plain_model_is_clean(keras_file, inspect):
    assert inspect(keras_file()) == []


LAMBDA = layer("Lambda", {"function": {"class_name": "__lambda__", "config": {"code": CODE}}})

HARMFUL = {
    "lambda": (LAMBDA, "scan.keras.lambda"),
    "lambda without a module": ({"class_name": "Lambda", "config": {}}, "scan.keras.lambda"),
    "lambda registered elsewhere": (layer("my>Lambda", module=None), "scan.keras.lambda"),
    "lambda in a wrapper": (layer("TimeDistributed", {"layer": LAMBDA}), "scan.keras.lambda"),
    "lambda in a model in a model": (
        layer("Functional", {"layers": [layer("Functional", {"layers": [LAMBDA]})]}),
        "scan.keras.lambda",
    ),
    "lambda as an argument": (
        layer(
            "Bidirectional", {"layer": layer("LSTM", {"activation": LAMBDA["config"]["function"]})}
        ),
        "scan.keras.lambda",
    ),
    "marshalled code": (layer("Dense", {"note": CODE}), "scan.keras.code"),
    "marshalled code of Keras 2": (
        {"class_name": "Dense", "config": {"function": [CODE + "\n", None, None]}},
        "scan.keras.code",
    ),
    "pickle in a string": (
        layer("Dense", {"note": base64.b64encode(b"\x80\x04\x95" + bytes(40)).decode()}),
        "scan.keras.code",
    ),
    "source": (layer("Dense", {"name": "__import__('os').system('id')"}), "scan.keras.code"),
    "system": (layer("Dense", {"activation": function("system", "os")}), "scan.keras.function"),
    "get_file": (
        layer("Dense", {"activation": function("get_file", "keras.utils", "get_file")}),
        "scan.keras.function",
    ),
    "load_model": (
        layer("Dense", {"activation": function("load_model", "keras.saving")}),
        "scan.keras.function",
    ),
    "private function of Keras": (
        layer("Dense", {"activation": function("func_load", "keras.src.utils.python_utils")}),
        "scan.keras.function",
    ),
    "unknown function": (layer("Dense", {"activation": function("mine")}), "scan.keras.class"),
    "class as function": (layer("get_file", module="keras.utils"), "scan.keras.module"),
    "numpy": (layer("load", module="numpy"), "scan.keras.module"),
    "subprocess": (layer("Popen", module="subprocess"), "scan.keras.module"),
    "builtins": (layer("exec", module="builtins"), "scan.keras.class"),
    "custom class": (layer("Mine", module="package.layers"), "scan.keras.class"),
    "registered under a known name": (
        layer("Dense", registered_name="evil>Dense"),
        "scan.keras.class",
    ),
    "claims to be ours": (
        layer("system", module="keras_secure.x", registered_name="keras_secure>system"),
        "scan.keras.class",
    ),
    "unsafe mode": (
        layer("Dense", {"activation": function("enable_unsafe_deserialization", "keras.config")}),
        "scan.keras.unsafe",
    ),
    "safe mode off": (layer("Dense", {"arguments": {"safe_mode": False}}), "scan.keras.unsafe"),
    "saved model": (layer("TFSMLayer", {"filepath": "other"}), "scan.keras.foreign_model"),
    "torch module": (layer("TorchModuleWrapper"), "scan.keras.foreign_model"),
    "vocabulary file": (
        layer("StringLookup", {"vocabulary": "/etc/passwd"}),
        "scan.keras.vocabulary_file",
    ),
    "relative vocabulary file": (
        layer("TextVectorization", {"vocabulary": "words.txt"}),
        "scan.keras.vocabulary_file",
    ),
    "address": (layer("Dense", {"origin": "https://evil.example/x"}), "scan.keras.path"),
    "bucket": (layer("Dense", {"origin": "gs://bucket/x"}), "scan.keras.path"),
    "absolute path": (layer("Dense", {"cache_dir": "/tmp/x/y"}), "scan.keras.path"),
    "windows path": (layer("Dense", {"file": "C:\\Windows\\x"}), "scan.keras.path"),
    "path upwards": (layer("Dense", {"file": "../../x"}), "scan.keras.path"),
    "path among arguments": (
        layer("Dense", {}, inbound_nodes=[{"args": [], "kwargs": {"inputs": "/tmp/a.keras"}}]),
        "scan.keras.path",
    ),
    "call without a tensor of the model": (
        layer("RepeatVector", {"n": 9}, inbound_nodes=[{"args": [[1.0]], "kwargs": {}}]),
        "scan.keras.call",
    ),
    "values of a huge type": (
        layer("Dense", {"x": {"class_name": "__numpy__", "config": {"dtype": "S2000000000"}}}),
        "scan.keras.malformed",
    ),
    "class name that is none": (layer(["Dense"]), "scan.keras.malformed"),
    "module that is none": (layer("Dense", module={"a": 1}), "scan.keras.malformed"),
    "foreign type": (
        {"class_name": "__typespec__", "spec_name": "Popen", "module": "subprocess", "config": []},
        "scan.keras.module",
    ),
    "operation that writes": (
        layer("TFOpLambda", {"function": "io.write_file"}),
        "scan.keras.function",
    ),
    "parameters": (layer("Dense", {"units": 10**9}), "scan.keras.budget"),
    "embedding": (
        layer("Embedding", {"input_dim": 10**6, "output_dim": 10**6}),
        "scan.keras.budget",
    ),
}


@pytest.mark.parametrize("case", HARMFUL)
def test_what_is_harmful_is_named(case, keras_file, sequential, failing):
    config, expected = HARMFUL[case]
    assert expected in failing(keras_file(sequential(config)))


HARMLESS = {
    "vocabulary of addresses": layer(
        "StringLookup", {"vocabulary": ["http://a.b/c", "/etc/passwd", "exec(", "lambda x: x"]}
    ),
    "activation by name": layer("Dense", {"activation": function("relu")}),
    "activation by module": layer(
        "Dense", {"activation": function("relu", "keras.activations", "relu")}
    ),
    "operation": layer(
        "GetItem", {"name": "get_item"}, "keras.src.ops.numpy", registered_name="GetItem"
    ),
    "our layer": layer(
        "InputGuard",
        {},
        "keras_secure.layers.input_guard",
        registered_name="keras_secure>InputGuard",
    ),
    "tensor": {"class_name": "__numpy__", "config": {"value": [1, 2], "dtype": "float32"}},
    "wrapped": layer("Bidirectional", {"layer": layer("LSTM", {"units": 4})}),
    "regular expression": layer("TextVectorization", {"split": "whitespace", "delimiter": "/"}),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_is_harmless_passes(case, keras_file, sequential, failing):
    assert failing(keras_file(sequential(HARMLESS[case]))) == set()


def test_a_class_is_allowed_by_either_name(keras_file, sequential, failing, inspect):
    custom = layer("Mine", module="package.layers", registered_name="package>Mine")
    path = keras_file(sequential(custom))
    assert failing(path) == {"scan.keras.class"}
    assert failing(path, allow=["package.layers>Other"]) == {"scan.keras.class"}
    for name in ("package.layers>Mine", "package>Mine"):
        assert failing(path, allow=[name]) == set()
        assert [f.id for f in inspect(path, allow=[name])] == ["scan.keras.allowed"]


def test_a_lambda_cannot_be_allowed(keras_file, sequential, failing):
    path = keras_file(sequential(LAMBDA))
    assert "scan.keras.lambda" in failing(path, allow=["keras.layers>Lambda"])


def test_places_are_told(keras_file, sequential, inspect):
    found = inspect(keras_file(sequential(layer("Lambda"))))
    assert found[0].evidence["file"] == "model.keras"
    assert found[0].evidence["place"] == "config.json > /config/layers/1"


def test_our_names_are_those_that_are_registered():
    import keras_secure
    from keras_secure.integrity.scan.own_names import OWN_CLASSES
    from keras_secure.registration import COMPONENTS

    for room in (
        "attacks",
        "detection",
        "layers",
        "objectives",
        "optimizers",
        "training",
        "watermark",
    ):
        getattr(keras_secure, room)
    assert {name.split(".")[1] for name in COMPONENTS} == OWN_CLASSES


def test_every_layer_of_keras_that_is_listed_is_one():
    import keras

    from keras_secure.integrity.scan.keras_names import KERAS_CLASSES

    exported = {name for name in dir(keras.layers) if name[0].isupper()}
    dangerous = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
    aliases = {
        name
        for name in exported
        if isinstance(getattr(keras.layers, name), type)
        and getattr(keras.layers, name).__name__ != name
    }
    missing = exported - KERAS_CLASSES["keras.layers"] - dangerous - aliases
    assert missing <= {"Input", "Layer", "InputSpec"}
    assert not KERAS_CLASSES["keras.layers"] & dangerous


TENSOR = {
    "class_name": "__keras_tensor__",
    "config": {"shape": [None, 3], "dtype": "float32", "keras_history": ["dense", 0, 0]},
}


def test_calls_and_values_of_keras_pass(keras_file, sequential, failing):
    values = {"class_name": "__numpy__", "config": {"value": [1.0], "dtype": "float32"}}
    called = layer("Add", inbound_nodes=[{"args": [[TENSOR, values]], "kwargs": {"mask": None}}])
    assert failing(keras_file(sequential(called, layer("InputLayer", inbound_nodes=[])))) == set()


@pytest.mark.parametrize("kind", ["class", "function"])
def test_an_allowed_name_lends_itself_to_no_module(kind, keras_file, sequential, failing):
    """Without the class at hand, Keras goes by the module that stands beside its name."""
    if kind == "class":
        honest = layer("Mine", module="my.layers", registered_name="my>Mine")
        spoofed = layer("Popen", module="subprocess", registered_name="my>Mine")
    else:
        honest = layer("Dense", {"activation": function("my>Mine", "my.layers", "my>Mine")})
        spoofed = layer("Dense", {"activation": function("system", "os", "my>Mine")})
    assert failing(keras_file(sequential(honest)), allow=["my>Mine"]) == set()
    assert failing(keras_file(sequential(spoofed)), allow=["my>Mine"]) != set()


def chained(*layers, shape=(None, 4)):
    first = layer("InputLayer", {"name": "x", "batch_shape": list(shape)})
    return layer("Sequential", {"layers": [first, *layers]}, module="keras")


def wide_first(more):
    return layer("Dense", {"units": 10**5} | more)


WIDE = wide_first({})
CHAINS = {
    "inputs": (chained(layer("Dense", {"units": 100}), shape=(None, 10**7)), True),
    "two layers": (chained(WIDE, layer("ReLU"), WIDE), True),
    "two layers with a lie between": (
        chained(WIDE, WIDE | {"build_config": {"input_shape": [None, 4]}}),
        True,
    ),
    "a wrapper": (chained(layer("TimeDistributed", {"layer": WIDE}), shape=(None, 2, 10**5)), True),
    "what the model was built for": (
        layer("Sequential", {"layers": [WIDE]}, "keras")
        | {"build_config": {"input_shape": [None, 10**5]}},
        True,
    ),
    "what the first layer expects": (
        layer("Sequential", {"layers": [wide_first({"batch_input_shape": [None, 10**5]})]}),
        True,
    ),
    "a shape without the batch": (
        layer("Sequential", {"layers": [wide_first({"input_shape": [10**5]})]}, "keras"),
        True,
    ),
    "growth": (
        chained(
            layer("UpSampling2D", {"size": [1000, 1000]}),
            layer("Flatten"),
            layer("Dense", {"units": 30}),
            shape=(None, 2, 2, 1),
        ),
        True,
    ),
    "states": (
        chained(layer("LSTM", {"units": 100, "stateful": True}), shape=(10**7, 3, 4)),
        True,
    ),
    "growth that is averaged away": (
        chained(
            layer("UpSampling2D", {"size": [1000, 1000]}),
            layer("GlobalAveragePooling2D"),
            layer("Dense", {"units": 30}),
            shape=(None, 2, 2, 1),
        ),
        False,
    ),
    "reshaping": (
        chained(layer("Reshape", {"target_shape": [-1, 2]}), WIDE, shape=(None, 10**6)),
        False,
    ),
    "odd shapes": (chained(WIDE, layer("Flatten"), shape=()), False),
}


@pytest.mark.parametrize("case", CHAINS)
def test_shapes_are_followed_through_a_model(case, keras_file, failing):
    config, harmful = CHAINS[case]
    assert ("scan.keras.budget" in failing(keras_file(config))) == harmful


def test_shapes_are_followed_through_a_functional_model(keras_file, failing):
    def named(one, name, *before):
        history = {"shape": [None, 4], "dtype": "float32", "keras_history": [*before, 0, 0]}
        tensor = {"class_name": "__keras_tensor__", "config": history}
        nodes = [{"args": [tensor], "kwargs": {}}] if before else []
        return one | {"name": name, "inbound_nodes": nodes}

    first = layer("InputLayer", {"name": "x", "batch_shape": [None, 4]})
    layers = [named(first, "x"), named(WIDE, "a", "x"), named(WIDE, "b", "x")]
    config = layer("Functional", {"layers": layers}, module="keras.src.models.functional")
    assert "scan.keras.budget" not in failing(keras_file(config))
    layers[-1] = named(WIDE, "b", "a")
    assert "scan.keras.budget" in failing(keras_file(config))
