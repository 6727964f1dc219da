"""Models of the Keras before Keras 3, rebuilt."""

import inspect
from typing import Any

import keras
import numpy as np

from keras_secure.errors import InputError

# How fast a layer computes, or what it had been called on: nothing that an answer depends on.
_WITHOUT_EFFECT = {
    "batch_input_shape", "build_config", "fused", "implementation", "input_length", "key_shape",
    "query_shape", "value_shape",
}  # fmt: skip
_MODELS = ("Functional", "Model", "Sequential")


def from_tf_keras(model: Any, examples: Any = None, tolerance: float = 1e-4) -> keras.Model:
    """Rebuilds a live tf_keras model as a Keras 3 model, architecture and weights.

    Layers are rebuilt from their configurations, with the classes of the same name in
    `keras.layers` and no others, so that no code of the model's is run. Both are then asked, and
    must answer the same.

    Files are not read: a model file of the old formats may run code when it is loaded. Scan it
    (`keras_secure.integrity.scan`), load it with tf_keras where that may do no harm, and give the
    model.

    Args:
        model: A built Sequential or functional model of tf_keras.
        examples: A batch of inputs to compare the answers on, or a list of them where there are
            several; made up by default.
        tolerance: How far an answer may differ, beside the largest one.

    Returns:
        A `keras.Model`, not compiled.

    Raises:
        InputError: It is no such model, it holds what Keras 3 has no layer for, or the rebuilt
            model answers otherwise.

    Example:

    >>> from_tf_keras("somebody_s_model.h5")
    Traceback (most recent call last):
    ...
    keras_secure.errors.InputError: from_tf_keras was given a str; a model of tf_keras was ...
    """
    if not any(base.__module__.startswith("tf_keras.") for base in type(model).__mro__):
        raise InputError(
            f"from_tf_keras was given a {type(model).__name__}; a model of tf_keras was expected. "
            "Files are never read: load what you trust with tf_keras and give the model."
        )
    kind = type(model).__name__
    if kind not in _MODELS:
        raise InputError(
            f"{kind} is a class of its own, so its architecture is code and not configuration. "
            "Write it for Keras 3 and set its weights."
        )
    if not model.built:
        raise InputError("The tf_keras model is not built. Call it once on data first.")
    config = _model_config(model.get_config(), kind)
    try:
        rebuilt = (keras.Sequential if kind == "Sequential" else keras.Model).from_config(config)
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"Keras 3 cannot rebuild {model.name!r}: {error}") from error
    if not rebuilt.built:
        rebuilt.build(model.input_shape)
    _copy_weights(model, rebuilt)
    _compare(model, rebuilt, examples, tolerance)
    return rebuilt


def _model_config(config: dict[str, Any], kind: str) -> dict[str, Any]:
    # tf_keras counts the building of such a model inside as its first call, Keras 3 does not.
    counted = {
        layer["config"]["name"]
        for layer in config["layers"]
        if layer["class_name"] in _MODELS
        and layer["config"]["layers"][0]["class_name"] == "InputLayer"
    }
    known = {"name", "trainable"}
    adapted = {key: value for key, value in config.items() if key in known}
    for key in () if kind == "Sequential" else ("input_layers", "output_layers"):
        places = [_place(entry, counted) for entry in config[key]]
        adapted[key] = places[0] if len(places) == 1 else places
    return {**adapted, "layers": [_layer(layer, counted) for layer in config["layers"]]}


def _place(entry: Any, counted: set[str]) -> list[Any]:
    """Which output of which call of which layer."""
    name, call, output = entry[:3]
    return [name, call - 1 if name in counted else call, output]


def _layer(description: dict[str, Any], counted: set[str]) -> dict[str, Any]:
    name, config = description["class_name"], description["config"]
    kept = {"name": description["name"]} if "name" in description else {}
    if "inbound_nodes" in description:
        kept["inbound_nodes"] = [_node(node, counted) for node in description["inbound_nodes"]]
    if name in _MODELS:
        return {
            "module": "keras",
            "class_name": "Sequential" if name == "Sequential" else "Functional",
            "config": _model_config(config, name),
            "registered_name": None,
            **kept,
        }
    found = getattr(keras.layers, name, None)
    if description.get("registered_name") or found is None or name == "Lambda":
        raise InputError(
            f"Layer {config.get('name', name)!r} is of class {name}, which keras.layers does not "
            "have or which holds code. Rebuild this part by hand."
        )
    return {
        "module": "keras.layers",
        "class_name": name,
        "config": _layer_config(found, dict(config)),
        "registered_name": None,
        **kept,
    }


def _node(node: Any, counted: set[str]) -> dict[str, Any]:
    """A call of a layer: what it was called on, and with what else."""
    tensors = [_tensor(entry, counted) for entry in node]
    others: dict[str, Any] = {}
    for entry in node:
        for name, value in (entry[3] if len(entry) > 3 else {}).items():
            others[name] = _tensor(value, counted) if _is_tensor(value) else value
    args = tensors if len(tensors) == 1 else [tensors]
    return {"args": args, "kwargs": others}


def _is_tensor(value: Any) -> bool:
    """Whether this is how tf_keras writes an output of a layer: its name and two numbers."""
    return (
        isinstance(value, list | tuple)
        and len(value) == 3
        and isinstance(value[0], str)
        and all(isinstance(number, int) for number in value[1:])
    )


def _tensor(entry: Any, counted: set[str]) -> dict[str, Any]:
    # Found by the layer that it comes from; shape and dtype are those of what is found.
    config = {"shape": [None], "dtype": "float32", "keras_history": _place(entry, counted)}
    return {"class_name": "__keras_tensor__", "config": config}


def _layer_config(layer: type, config: dict[str, Any]) -> dict[str, Any]:
    if layer is keras.layers.InputLayer:
        config["batch_shape"] = config.pop("batch_input_shape")
    axis = config.get("axis")
    if layer is keras.layers.BatchNormalization and isinstance(axis, list | tuple):
        if len(axis) != 1:
            raise InputError(
                f"Layer {config['name']!r} normalizes several axes at once. Rebuild it by hand."
            )
        config["axis"] = axis[0]
    taken = _arguments(layer)
    adapted = {}
    for key, value in config.items():
        if key in taken:
            adapted[key] = _adapted(value)
        elif not _without_effect(key, value):
            raise InputError(
                f"Layer {config.get('name')!r} has {key}={value!r}, which the {layer.__name__} of "
                "Keras 3 does not know. Rebuild this part by hand."
            )
    return adapted


def _without_effect(key: str, value: Any) -> bool:
    if key in _WITHOUT_EFFECT or value is None or value is False:
        return True
    # Weights are set, whatever they begin with; and one group is no groups.
    return key.endswith("_initializer") or (key, value) == ("groups", 1)


def _arguments(layer: type) -> set[str]:
    found = {"name", "trainable", "dtype"}
    for base in layer.__mro__:
        if base is keras.layers.Layer:
            break
        if "__init__" in vars(base):
            found |= set(inspect.signature(base).parameters)
    return found - {"self", "args", "kwargs"}


def _adapted(value: Any) -> Any:
    """What layers hold in their configurations: other layers, initializers, plain values."""
    if isinstance(value, list | tuple):
        return [_adapted(each) for each in value]
    if not isinstance(value, dict) or "class_name" not in value:
        return value
    return _layer(value, set()) if value.get("module") in ("keras.layers", "keras", None) else value


def _copy_weights(old: Any, new: keras.Model) -> None:
    layers = {layer.name: layer for layer in new.layers}
    for layer in old.layers:
        weights = layer.get_weights()
        twin = layers.get(layer.name)
        if twin is None and not weights:
            continue
        try:
            twin.set_weights(weights)  # type: ignore[union-attr]
        except (AttributeError, ValueError) as error:
            raise InputError(
                f"The weights of layer {layer.name!r} do not fit Keras 3's: {error}"
            ) from error


def _compare(old: Any, new: keras.Model, examples: Any, tolerance: float) -> None:
    if examples is None:
        generator = np.random.default_rng(0)
        batches = [_made_up(spec, generator) for spec in new.inputs]
    else:
        batches = list(examples) if isinstance(examples, list | tuple) else [examples]
    given = batches[0] if len(batches) == 1 else batches
    told, expected = (
        [np.asarray(each) for each in _listed(model(given, training=False))] for model in (new, old)
    )
    for mine, theirs in zip(told, expected, strict=True):
        if mine.shape != theirs.shape:
            raise InputError(
                f"The rebuilt model answers in shape {mine.shape}, the given one in {theirs.shape}."
            )
        difference = float(np.max(np.abs(mine - theirs), initial=0.0))
        # Written so that NaN fails: every comparison with it is false.
        if not difference <= tolerance * max(1.0, float(np.max(np.abs(theirs), initial=0.0))):
            raise InputError(
                f"The rebuilt model answers otherwise, by up to {difference:.2g}: some layer of "
                "this model computes something else in Keras 3. Rebuild it by hand."
            )


def _made_up(spec: Any, generator: np.random.Generator) -> np.ndarray:
    shape = (4, *(5 if size is None else size for size in spec.shape[1:]))
    if keras.backend.is_float_dtype(spec.dtype):
        return generator.random(shape).astype(spec.dtype)
    # Every vocabulary has these two.
    return generator.integers(0, 2, shape).astype(spec.dtype)


def _listed(outputs: Any) -> list[Any]:
    if isinstance(outputs, dict):
        return [outputs[name] for name in sorted(outputs)]
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]
