"""Writes models as Keras would, and as it would not: archives, their configs and weights."""

import io
import json
import random
import re
import warnings
import zipfile

DATE = (1980, 1, 1, 0, 0, 0)
NO_OP = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}}
SOURCE_MODULES = {
    "Lambda": "keras.src.layers.core.lambda_layer",
    "Dense": "keras.src.layers.core.dense",
    "StringLookup": "keras.src.layers.preprocessing.string_lookup",
    "IntegerLookup": "keras.src.layers.preprocessing.integer_lookup",
    "TextVectorization": "keras.src.layers.preprocessing.text_vectorization",
    "TFSMLayer": "keras.src.export.tfsm_layer",
    "TorchModuleWrapper": "keras.src.utils.torch_utils",
    "JaxLayer": "keras.src.utils.jax_layer",
    "FlaxLayer": "keras.src.utils.jax_layer",
}


def module_of(variant, class_name):
    return {
        "public": "keras.layers",
        "source": SOURCE_MODULES.get(class_name, "keras.src.layers"),
        "package": "keras",
        "tensorflow": "tensorflow.keras.layers",
        "bare": None,
    }[variant.spelling]


def layer(class_name, config, variant=None, module="keras.layers", **more):
    """A layer as a config has it; with a `variant` its module is spelled as that says."""
    if variant is not None:
        module = module_of(variant, class_name)
        if variant.spelling == "bare":
            return {"class_name": class_name, "config": config} | more
    return {
        "module": module,
        "class_name": class_name,
        "config": config,
        "registered_name": None,
    } | more


def dense(name="dense", units=4, **changed):
    config = {
        "name": name,
        "trainable": True,
        "dtype": NO_OP | {"registered_name": None},
        "units": units,
        "activation": "linear",
        "use_bias": True,
        "kernel_initializer": {
            "module": "keras.initializers",
            "class_name": "GlorotUniform",
            "config": {"seed": None},
            "registered_name": None,
        },
        "bias_initializer": {
            "module": "keras.initializers",
            "class_name": "Zeros",
            "config": {},
            "registered_name": None,
        },
        "kernel_regularizer": None,
        "bias_regularizer": None,
        "kernel_constraint": None,
        "bias_constraint": None,
    }
    return layer("Dense", config | changed, build_config={"input_shape": [None, 4]})


def input_layer(name="input_layer", shape=(None, 4), dtype="float32"):
    config = {"batch_shape": list(shape), "dtype": dtype, "sparse": False, "name": name}
    return layer("InputLayer", config)


def sequential(layers, name="sequential"):
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": name, "trainable": True, "layers": layers},
        "registered_name": None,
        "build_config": {"input_shape": [None, 4]},
    }


def functional(layers, name="functional"):
    """The layers as a chain, each called on the one before.

    A layer that brings a call of its own stands beside the chain: Keras would wait for its output.
    """
    nodes, before = [], None
    for at, one in enumerate(layers):
        own = one["config"].get("name") if isinstance(one.get("config"), dict) else None
        own = own or f"layer_{at}"
        calls = []
        if before is not None:
            history = {"shape": [None, 4], "dtype": "float32", "keras_history": [before, 0, 0]}
            tensor = {"class_name": "__keras_tensor__", "config": history}
            calls = [{"args": [tensor], "kwargs": {}}]
        nodes.append({"inbound_nodes": calls} | one | {"name": own})
        if "inbound_nodes" not in one:
            before = own
    ends = [nodes[0]["name"], 0, 0], [nodes[-1]["name"], 0, 0]
    config = {"name": name, "trainable": True, "layers": nodes}
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": config | {"input_layers": [ends[0]], "output_layers": [ends[1]]},
        "registered_name": "Functional",
        "build_config": {"input_shape": None},
    }


def wrapped(inner, wrapper, at):
    name = f"{wrapper.lower()}_{at}"
    if wrapper == "Sequential":
        return sequential([input_layer(), inner], name)
    if wrapper == "Functional":
        return functional([input_layer(), inner], name)
    if wrapper == "Bidirectional":
        cell = layer("RNN", {"name": "rnn", "cell": inner, "return_sequences": True})
        return layer("Bidirectional", {"name": name, "layer": cell, "merge_mode": "concat"})
    return layer(wrapper, {"name": name, "layer": inner})


def model(layers, variant):
    """A model around the harmful `layers`, which stand in what the variant nests them in."""
    held = []
    for one in layers:
        for at, wrapper in enumerate(reversed(variant.nesting)):
            one = wrapped(one, wrapper, at)
        held.append(one)
    make = functional if variant.outer == "Functional" else sequential
    return make([input_layer(), dense("first"), *held, dense("last")])


def clean_model():
    return sequential([input_layer(), dense(units=3)])


def dumped(config, variant):
    """The JSON of a config, in one of the ways that Keras reads."""
    style = variant.json_style
    if style == "indented":
        return json.dumps(config, indent=4, separators=(" ,", " : ")).encode()
    if style == "sorted":
        return json.dumps(config, sort_keys=True, separators=(",", ":")).encode()
    text = json.dumps(config)
    if style == "escaped":

        def escape(found):
            return found[1] + "".join(f"\\u{ord(letter):04x}" for letter in found[2]) + '"'

        pattern = r'("(?:class_name|module|config|registered_name)": ")([A-Za-z_.]+)"'
        return re.sub(pattern, escape, text).encode()
    return text.encode(style if style.startswith("utf") else "utf-8")


def weights(edit=None, *, latest=False, userblock=0, name="dense"):
    """A `.weights.h5` of one Dense layer, after `edit(file)`."""
    import h5py
    import numpy as np

    held = io.BytesIO()
    options = {"libver": "latest"} if latest else {}
    if userblock:
        options["userblock_size"] = userblock
    with h5py.File(held, "w", **options) as file:
        group = file.create_group(f"layers/{name}/vars")
        group.attrs["name"] = name
        rng = np.random.default_rng(0)
        group["0"] = rng.normal(size=(4, 3)).astype("float32")
        group["1"] = np.zeros(3, "float32")
        file.create_group("vars")
        if edit is not None:
            edit(file)
    return held.getvalue()


def metadata():
    return json.dumps({"keras_version": "3.13.2", "date_saved": "2026-02-01@12:00:00"}).encode()


def entry(name, data, compression=zipfile.ZIP_STORED, mode=0o600):
    info = zipfile.ZipInfo(name, DATE)
    info.compress_type = compression
    info.external_attr = mode << 16
    return info, data


def zipped(entries, variant):
    """The bytes of an archive of `(name or ZipInfo, data)` pairs."""
    held = io.BytesIO()
    held.write(variant.prefix)
    with warnings.catch_warnings(), zipfile.ZipFile(held, "w") as archive:
        # Two entries of one name are what some kinds are about.
        warnings.simplefilter("ignore", UserWarning)
        for name, data in reversed(entries) if variant.reverse else entries:
            info, data = (
                entry(name, data, variant.compression) if type(name) is str else (name, data)
            )
            archive.writestr(info, data)
        if variant.comment:
            archive.comment = b"a model, nothing more"
    return held.getvalue()


def target(folder, variant, suffix):
    """Where the file of a kind goes."""
    name = random.Random(variant.seed).choice(("model", "weights_best", "final")) + (
        suffix if variant.suffix is None else variant.suffix
    )
    return folder / name


def write_model(folder, config, variant, *, extra=(), stored_weights=None, weights_name=None):
    """A model of this config as the variant's container."""
    text = config if isinstance(config, bytes) else dumped(config, variant)
    stored_weights = weights() if stored_weights is None else stored_weights
    entries = [
        ("metadata.json", metadata()),
        ("config.json", text),
        (weights_name or "model.weights.h5", stored_weights),
        *extra,
    ]
    if variant.container == "h5":
        import h5py

        path = target(folder, variant, ".h5")
        with h5py.File(path, "w") as file:
            held = json.loads(text)
            compile_config = held.pop("compile_config", None)
            # Legacy files have 64 KiB for an attribute, and UTF-8.
            file.attrs["model_config"] = json.dumps(held)
            if compile_config is not None:
                file.attrs["training_config"] = json.dumps(compile_config)
            file.attrs["keras_version"], file.attrs["backend"] = "3.13.2", "tensorflow"
            file.create_group("model_weights").attrs["layer_names"] = []
        return path
    if variant.container == "folder":
        path = folder / "model"
        for name, data in entries:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
        return path
    path = target(folder, variant, ".keras")
    path.write_bytes(zipped(entries, variant))
    return path
