"""TensorFlow Serving's REST dialect: what is asked, and how it is answered.

Reference:
    TensorFlow Serving, RESTful API (`g3doc/api_rest.md`), and its `util/json_tensor.cc`, which
    decides where the page is silent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_secure.serving.refusal import Refusal, malformed
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
        raise malformed(
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
        )
    if "instances" in body:
        values = _row_values(body["instances"], specs)
    elif "inputs" in body:
        values = _column_values(body["inputs"], specs)
    else:
        raise malformed("Missing 'inputs' or 'instances' key")
    inputs = {
        name: read_tensor(value, specs[name], has_constants) for name, value in values.items()
    }
    request = PredictRequest(inputs, "instances" in body, signature_of(body))
    if request.rows == 0:
        raise malformed("The request holds no example")
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
        raise malformed("'signature_name' key must be a string value.")
    return name or DEFAULT_SIGNATURE


def unknown_signature(name: str) -> Refusal:
    """What to raise for a signature that the model does not have."""
    return malformed(f"Serving signature name: {name[:80]!r} not found in signature def")


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
        raise malformed(
            "Outputs have inconsistent batch sizes: use 'inputs' in place of 'instances'"
        )
    rows = zip(*written.values(), strict=True)
    return {"predictions": [dict(zip(written, row, strict=True)) for row in rows]}


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
        raise malformed("Expecting 'instances' to be an list/array")
    if not instances:
        raise malformed("No values in 'instances' array")
    named = _is_named(instances[0])
    if not named:
        if len(specs) > 1:
            raise malformed(
                "instances is a plain list, but expecting list of objects as multiple input "
                "tensors required"
            )
        return {next(iter(specs)): instances}
    for place, item in enumerate(instances):
        if not _is_named(item) or item.keys() != specs.keys():
            raise malformed(
                f"Failed to process element: {place} of 'instances' list. Keys must be equal to: "
                f"{','.join(specs)}"
            )
    return {name: [item[name] for item in instances] for name in specs}


def _column_values(inputs: Any, specs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    if not _is_named(inputs):
        if len(specs) > 1:
            raise malformed(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required"
            )
        return {next(iter(specs)): inputs}
    for name in specs:
        if name not in inputs:
            raise malformed(f"Missing named input: {name} in 'inputs' object.")
    return {name: inputs[name] for name in specs}


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)
