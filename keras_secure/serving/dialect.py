"""TensorFlow Serving's REST dialect: what is asked, and how it is answered.

Reference:
    TensorFlow Serving, RESTful API (`g3doc/api_rest.md`), and its `util/json_tensor.cc`, which
    decides where the page is silent.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from keras_secure.serving.refusal import Refusal
from keras_secure.serving.tensors import TensorSpec, is_base64, read_tensor, write_tensor

DEFAULT_SIGNATURE = "serving_default"
LABEL = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"


@dataclass(frozen=True)
class PredictRequest:
    """What a client wants predicted.

    Args:
        inputs: Array of each input, by its name.
        row_format: Whether it came as `instances`, and is answered by `predictions`.
        signature: The signature that it asks for.
    """

    inputs: dict[str, np.ndarray]
    row_format: bool
    signature: str = DEFAULT_SIGNATURE

    @property
    def rows(self) -> int:
        """How many examples it holds."""
        return max((len(array) if array.ndim else 1) for array in self.inputs.values())


def read_predict(
    body: dict[str, Any], specs: Mapping[str, TensorSpec], has_constants: bool
) -> PredictRequest:
    """Reads the body of a `:predict` request.

    Args:
        body: The parsed JSON.
        specs: What the signature takes, by name.
        has_constants: As for `read_tensor`.

    Returns:
        The `PredictRequest`.

    Raises:
        Refusal: With status 400: it is not what the signature takes.

    Example:

    >>> specs = {"x": TensorSpec("x", "float32", (None, 2))}
    >>> read_predict({"instances": [[1, 2]]}, specs, False).inputs["x"].shape
    (1, 2)
    """
    if "instances" in body and "inputs" in body:
        raise _refusal(
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
        )
    if "instances" in body:
        values = _row_values(body["instances"], specs)
    elif "inputs" in body:
        values = _column_values(body["inputs"], specs)
    else:
        raise _refusal("Missing 'inputs' or 'instances' key")
    inputs = {
        name: read_tensor(value, specs[name], has_constants) for name, value in values.items()
    }
    request = PredictRequest(inputs, "instances" in body, signature_of(body))
    if request.rows == 0:
        raise _refusal("The request holds no example")
    return request


def signature_of(body: dict[str, Any]) -> str:
    """The name of the signature that a request asks for; the default one where it names none.

    Raises:
        Refusal: With status 400: it is no text.

    Example:

    >>> signature_of({"instances": [1]})
    'serving_default'
    """
    name = body.get("signature_name", "")
    if not isinstance(name, str):
        raise _refusal("'signature_name' key must be a string value.")
    return name or DEFAULT_SIGNATURE


def unknown_signature(name: str) -> Refusal:
    """What to raise for a signature that the model does not have."""
    return _refusal(f"Serving signature name: {name[:80]!r} not found in signature def")


def unknown_label(label: str) -> Refusal:
    """What to raise for a label of versions that there is not."""
    return Refusal(400, f"Unrecognized servable version label: {label[:80]}", "unknown_model")


def write_predict(outputs: Mapping[str, np.ndarray], row_format: bool) -> dict[str, Any]:
    """Makes the answer to a `:predict` request.

    Args:
        outputs: Every output by name; the name is left out where there is but one.
        row_format: As in `PredictRequest`.

    Returns:
        The object to write as JSON.

    Raises:
        Refusal: With status 400: outputs that are not by example were asked for by example.

    Example:

    >>> write_predict({"y": np.array([[1.5]], "float32")}, True)
    {'predictions': [[1.5]]}
    >>> write_predict({"a": np.array([1]), "b": np.array([True])}, True)
    {'predictions': [{'a': 1, 'b': True}]}
    """
    written = {name: write_tensor(name, np.asarray(array)) for name, array in outputs.items()}
    if len(written) == 1:
        return {"predictions" if row_format else "outputs": next(iter(written.values()))}
    if not row_format:
        return {"outputs": written}
    if len({np.shape(array)[:1] for array in outputs.values()}) > 1:
        raise _refusal(
            "Outputs have inconsistent batch sizes: use 'inputs' in place of 'instances'"
        )
    rows = zip(*written.values(), strict=True)
    return {"predictions": [dict(zip(written, row, strict=True)) for row in rows]}


def read_examples(
    body: dict[str, Any], spec: TensorSpec, method: Literal["classify", "regress"]
) -> PredictRequest:
    """Reads the body of a `:classify` or `:regress` request for a model of one numeric input.

    Each example is an object whose one feature has the input's name, and as in `tf.Example` is a
    flat list; the same feature in `context` would belong to all.

    Raises:
        Refusal: With status 400: it is not that.

    Example:

    >>> spec = TensorSpec("x", "float32", (None, 2, 1))
    >>> read_examples({"examples": [{"x": [1, 2]}]}, spec, "classify").inputs["x"].shape
    (1, 2, 1)
    """
    sizes = (spec.shape or ())[1:]
    shape = tuple(size for size in sizes if size is not None)
    if spec.shape is None or shape != sizes or spec.dtype == "string":
        raise _refusal(f"The model cannot be asked to {method}: use :predict")
    examples = body.get("examples")
    if not isinstance(examples, list):
        raise _refusal(f"When method is {method}, key 'examples' is expected and must be a list")
    if not examples:
        raise _refusal("'examples' value is an empty array")
    context = body.get("context", {})
    if not isinstance(context, dict):
        raise _refusal("Example must be JSON object")
    rows = [_feature(example, context, spec.name) for example in examples]
    size = math.prod(shape)
    flat = TensorSpec(spec.name, spec.dtype, (None, size))
    array = read_tensor(rows, flat, has_constants=True)
    return PredictRequest({spec.name: array.reshape(-1, *shape)}, True)


def write_classify(
    predictions: np.ndarray, rejected: np.ndarray | None, labels: tuple[str, ...]
) -> dict[str, Any]:
    """Makes the answer to `:classify`: label and score of every class, none for what was rejected.

    Example:

    >>> write_classify(np.array([[0.25, 0.75]], "float32"), None, ("", ""))
    {'results': [[['', 0.25], ['', 0.75]]]}
    """
    if predictions.ndim != 2 or predictions.shape[1] < 2 or len(labels) != predictions.shape[1]:
        raise _refusal(
            "The model is no classifier, so it cannot be asked to classify: use :predict"
        )
    scores = write_tensor("predictions", predictions)
    turned_away = np.zeros(len(scores), bool) if rejected is None else rejected
    return {
        "results": [
            [] if away else [list(pair) for pair in zip(labels, row, strict=True)]
            for row, away in zip(scores, turned_away, strict=True)
        ]
    }


def write_regress(predictions: np.ndarray, rejected: np.ndarray | None) -> dict[str, Any]:
    """Makes the answer to `:regress`: one number an example, NaN for what was rejected.

    Example:

    >>> write_regress(np.array([[1.5], [2.0]], "float32"), None)
    {'results': [1.5, 2.0]}
    """
    if predictions.ndim == 2 and predictions.shape[1] == 1:
        predictions = predictions[:, 0]
    if predictions.ndim != 1 or predictions.dtype.kind != "f":
        raise _refusal("The model is no regressor, so it cannot be asked to regress: use :predict")
    if rejected is not None:
        predictions = np.where(rejected, np.float32("nan"), predictions)
    return {"results": write_tensor("predictions", predictions)}


def write_status(versions: Mapping[int, str]) -> dict[str, Any]:
    """Makes the answer to a question for a model's status, from the state of each version.

    Example:

    >>> write_status({3: "AVAILABLE"})["model_version_status"][0]["version"]
    '3'
    """
    return {
        "model_version_status": [
            {
                "version": str(version),
                "state": state,
                "status": {"error_code": "OK", "error_message": ""},
            }
            for version, state in sorted(versions.items(), reverse=True)
        ]
    }


def write_metadata(
    name: str,
    version: int,
    inputs: Mapping[str, TensorSpec],
    signatures: Mapping[str, Mapping[str, TensorSpec]],
) -> dict[str, Any]:
    """Makes the answer to a question for a model's metadata.

    Args:
        name: The model's name.
        version: Its version.
        inputs: What each signature takes, by name.
        signatures: What each signature gives, by name.

    Returns:
        The object to write as JSON.

    Example:

    >>> spec = {"x": TensorSpec("x", "float32", (None, 2))}
    >>> answer = write_metadata("digits", 1, spec, {"serving_default": spec})
    >>> answer["model_spec"]["version"], list(answer["metadata"])
    ('1', ['signature_def'])
    """
    described = {
        signature: {
            "inputs": {key: spec.metadata() for key, spec in inputs.items()},
            "outputs": {key: spec.metadata() for key, spec in outputs.items()},
            "method_name": "tensorflow/serving/predict",
        }
        for signature, outputs in signatures.items()
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": described}},
    }


def _row_values(instances: Any, specs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    if not isinstance(instances, list):
        raise _refusal("Expecting 'instances' to be an list/array")
    if not instances:
        raise _refusal("No values in 'instances' array")
    named = _is_named(instances[0])
    if not named:
        if len(specs) > 1:
            raise _refusal(
                "instances is a plain list, but expecting list of objects as multiple input "
                "tensors required"
            )
        return {next(iter(specs)): instances}
    for place, item in enumerate(instances):
        if not _is_named(item) or item.keys() != specs.keys():
            raise _refusal(
                f"Failed to process element: {place} of 'instances' list. Keys must be equal to: "
                f"{','.join(specs)}"
            )
    return {name: [item[name] for item in instances] for name in specs}


def _column_values(inputs: Any, specs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    if not _is_named(inputs):
        if len(specs) > 1:
            raise _refusal(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required"
            )
        return {next(iter(specs)): inputs}
    for name in specs:
        if name not in inputs:
            raise _refusal(f"Missing named input: {name} in 'inputs' object.")
    return {name: inputs[name] for name in specs}


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def _feature(example: Any, context: dict[str, Any], name: str) -> Any:
    if not isinstance(example, dict):
        raise _refusal("Example must be JSON object")
    if name in example and name in context:
        raise _refusal(f"Feature: {name} stands in the context and in an example")
    features = {**context, **example}
    if features.keys() != {name}:
        raise _refusal(f"An example must have the feature {name!r} and no other")
    value = features[name]
    return value if isinstance(value, list) else [value]


def _refusal(message: str) -> Refusal:
    return Refusal(400, message, "malformed")
