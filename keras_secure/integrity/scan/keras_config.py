"""Configurations of Keras objects: what loading them would build, call, import or open."""

import re
from typing import Any

from keras_secure.integrity.scan.collector import Collector
from keras_secure.integrity.scan.keras_references import (
    Judgement,
    judge_class,
    judge_function,
)
from keras_secure.integrity.scan.parameter_budget import declared_parameters
from keras_secure.integrity.scan.place import Place, quoted
from keras_secure.integrity.scan.shapes import Shape, layer_inputs
from keras_secure.integrity.scan.strings import code_kind, location_kind

VALUE_CLASSES = frozenset(
    {
        "__bytes__",
        "__ellipsis__",
        "__keras_tensor__",
        "__numpy__",
        "__slice__",
        "__tensor__",
        "__tuple__",
        "__typespec__",
    }
)
LOADERS = frozenset({"TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})
FILE_KEYS = frozenset({"vocabulary", "idf_weights"})
VOCABULARIES = frozenset({"vocabulary", "input_vocabulary"})
FREE_TEXT = VOCABULARIES | {"oov_token", "mask_token"}
# A size in it makes every single value as large.
_DTYPE = re.compile(
    r"(?:bool|u?int\d{1,2}|b?float\d{1,3}|float8_\w{1,20}|complex\d{1,3}|string|object|"
    r"(?:str|bytes)\d{0,6})"
)
_OPERATION_LAYERS = frozenset({"TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod"})
_SAFE_OPERATIONS = ("math.", "nn.", "__operators__.", "linalg.", "image.", "random.", "strings.")
_DANGEROUS_OPERATIONS = ("io.", "py_function", "numpy_function", "raw_ops", "saved_model", "load_")


def inspect_config(config: Any, place: Place, collector: Collector, legacy: bool = False) -> int:
    """Walks through everything in a configuration.

    Args:
        config: What `json.loads` returned.
        place: Where the configuration stands.
        collector: Takes the findings.
        legacy: Whether it is of Keras 2 or of an HDF5 file, where objects have no module.

    Returns:
        How many parameters the configuration declares at least.
    """
    walk = _Walk(place, collector, legacy)
    stack: list[tuple[Any, str, str]] = [(config, "", "")]
    while stack:
        value, path, key = stack.pop()
        walk.visit(value, path, key)
        if isinstance(value, dict):
            stack += [
                (child, f"{path}/{quoted(name, 60)}", name)
                for name, child in reversed(value.items())
                if isinstance(child, (str, dict, list))
            ]
        elif isinstance(value, list):
            # Words of a vocabulary are data, whatever they look like.
            if key in VOCABULARIES and not any(isinstance(v, (dict, list)) for v in value):
                continue
            stack += [
                (child, f"{path}/{index}", key)
                for index, child in reversed(list(enumerate(value)))
                if isinstance(child, (str, dict, list))
            ]
    return walk.parameters


class _Walk:
    def __init__(self, place: Place, collector: Collector, legacy: bool):
        self.place = place
        self.collector = collector
        self.legacy = legacy
        self.parameters = 0
        self.shapes: dict[int, Shape] = {}

    def add(self, rule, statement, path, **evidence):
        self.collector.add(rule, statement, self.place.inside(path or "/"), **evidence)

    def visit(self, value: Any, path: str, key: str) -> None:
        self.collector.tick()
        if isinstance(value, dict):
            if isinstance(value.get("class_name"), str):
                self.object(value, path)
            elif "class_name" in value:
                self.add(
                    "scan.keras.malformed",
                    f"The class name is {quoted(value['class_name'])}, not a string.",
                    path,
                )
            for name in value:
                self.string(name, path, "")
            if value.get("safe_mode") is False:
                self.add("scan.keras.unsafe", "The configuration asks for safe_mode=False.", path)
        elif isinstance(value, str):
            self.string(value, path, key)

    def object(self, value: dict[str, Any], path: str) -> None:
        name = value["class_name"]
        config = value.get("config")
        module = value.get("module")
        registered = value.get("registered_name")
        evidence = {"class_name": name, "module": module, "registered_name": registered}
        label = quoted(name)
        if isinstance(config, dict) and isinstance(config.get("layers"), list):
            # The objects of the document outlive this walk, so their identities are their own.
            self.shapes |= {id(layer): shape for layer, shape in layer_inputs(value)}
        shape = self.shapes.get(id(value))
        self.parameters += declared_parameters(name, config, value.get("build_config"), shape)
        if isinstance(value.get("inbound_nodes"), list):
            self.calls(value["inbound_nodes"], path, label)
        if name == "__lambda__":
            self.add("scan.keras.lambda", "A Python lambda is stored here.", path, **evidence)
        elif name in VALUE_CLASSES:
            if name == "__typespec__":
                self.typespec(value, path, evidence)
            elif name in ("__numpy__", "__tensor__"):
                self.array(config, path)
        elif name == "function":
            self.function(config, module, registered, path)
        elif name == "Lambda" or name.endswith(">Lambda"):
            kind = _lambda_kind(config)
            self.add("scan.keras.lambda", f"A Lambda layer runs {kind}.", path, **evidence)
        elif name in LOADERS:
            target = config.get("filepath") if isinstance(config, dict) else None
            what = f" from {quoted(target)!r}" if isinstance(target, str) else ""
            self.add(
                "scan.keras.foreign_model",
                f"The layer {label} loads and runs another model{what}.",
                path,
                **evidence,
            )
        elif name in _OPERATION_LAYERS:
            self.operation_layer(name, config, path)
        else:
            self.known_class(value, path, evidence)
        if isinstance(config, dict):
            self.files(config, path)

    def known_class(self, value, path, evidence) -> None:
        names = value["class_name"], value.get("module"), value.get("registered_name")
        self.judged(judge_class(*names, self.collector.allow, self.legacy), path, evidence)

    def function(self, name, module, registered, path) -> None:
        evidence = {"function": name, "module": module, "registered_name": registered}
        found = judge_function(name, module, registered, self.collector.allow)
        self.judged(found, path, evidence)

    def judged(self, found: Judgement | None, path: str, evidence: dict[str, Any]) -> None:
        if found is not None:
            # What is malformed may be anything, and of any size.
            told = {} if found.rule == "scan.keras.malformed" else evidence
            self.add(*found, path, **told)

    def operation_layer(self, name, config, path) -> None:
        function = config.get("function") if isinstance(config, dict) else None
        if not isinstance(function, str):
            function = ""
        safe = function.startswith(_SAFE_OPERATIONS) or "." not in function
        dangerous = any(part in function for part in _DANGEROUS_OPERATIONS)
        if dangerous or not safe:
            self.add(
                "scan.keras.function",
                f"The layer {name} calls TensorFlow's function {quoted(function)!r}.",
                path,
                function=function,
            )

    def calls(self, nodes: list[Any], path: str, label: str) -> None:
        for index, node in enumerate(nodes):
            if isinstance(node, dict) and "args" in node and not _has_model_tensor(node):
                self.add(
                    "scan.keras.call",
                    f"{label} is called with values of the file's alone, while it is loaded.",
                    f"{path}/inbound_nodes/{index}",
                )

    def array(self, config: Any, path: str) -> None:
        dtype = config.get("dtype") if isinstance(config, dict) else None
        if not (isinstance(dtype, str) and _DTYPE.fullmatch(dtype)):
            self.add(
                "scan.keras.malformed",
                f"The values are of type {quoted(dtype, 80)!r}, which Keras does not write.",
                path,
                dtype=dtype,
            )

    def typespec(self, value, path, evidence) -> None:
        module, name = value.get("module"), value.get("spec_name")
        known = isinstance(module, str) and module.startswith("tensorflow.python.framework.")
        if not (known and isinstance(name, str) and name.endswith("Spec")):
            self.add(
                "scan.keras.module",
                f"A type would be looked up as {quoted(module)}>{quoted(name)}.",
                path,
                **evidence,
            )

    def files(self, config: dict[str, Any], path: str) -> None:
        for key in FILE_KEYS & config.keys():
            if isinstance(config[key], str):
                self.add(
                    "scan.keras.vocabulary_file",
                    f"The {key} would be read from {quoted(config[key])!r} while loading.",
                    f"{path}/config/{key}",
                    target=config[key],
                )

    def string(self, text: str, path: str, key: str) -> None:
        if "unsafe_deserialization" in text:
            self.add(
                "scan.keras.unsafe", "The text names the switch that turns safe mode off.", path
            )
        if kind := code_kind(text):
            self.add(
                "scan.keras.code", f"The text holds {kind}.", path, kind=kind, text=quoted(text, 80)
            )
        elif key not in FREE_TEXT and (kind := location_kind(text)):
            self.add(
                "scan.keras.path",
                f"The text {quoted(text, 120)!r} is an {kind}."
                if kind[0] == "a"
                else f"The text {quoted(text, 120)!r} is a {kind}.",
                path,
                target=text,
            )


def _has_model_tensor(node: dict[str, Any]) -> bool:
    stack: list[Any] = [node.get("args"), node.get("kwargs")]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if value.get("class_name") == "__keras_tensor__":
                return True
            stack += value.values()
        elif isinstance(value, list):
            stack += value
    return False


def _lambda_kind(config: Any) -> str:
    function = config.get("function") if isinstance(config, dict) else None
    if isinstance(function, dict) and function.get("class_name") == "function":
        return f"the function {quoted(function.get('module'))}>{quoted(function.get('config'))}"
    if isinstance(function, str):
        return f"the function {quoted(function, 80)!r}"
    return "Python code that the file carries" if function else "a Python function"
