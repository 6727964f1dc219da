"""The OpenAPI document of a server: what it takes, to the shape, and every way it answers."""

import math
from collections.abc import Mapping
from typing import Any

from keras_secure.serving.dialect import LABEL
from keras_secure.serving.tensors import TensorSpec

_BOUNDS = {
    "float16": 65504.0,
    "bfloat16": 3.3895313892515355e38,
    "float32": 3.4028234663852886e38,
    "float64": 1.7976931348623157e308,
}
_REF = "#/components/schemas/"
_ERRORS = {
    400: "The request is malformed.",
    401: "Credentials are missing or do not hold.",
    403: "The credentials do not allow this.",
    404: "There is no such model or version.",
    409: "The version cannot be changed.",
    413: "The request is too large.",
    415: "The request is compressed.",
    429: "Too many requests, or the budget is spent.",
    500: "The server failed.",
    502: "The upstream server gave no usable answer.",
    503: "The server is busy or not ready.",
    504: "The time for the request is up.",
}
_INFERENCE = (400, 401, 403, 404, 413, 415, 429, 500, 502, 503, 504)
_INFORMATION = (400, 401, 403, 404, 429, 500, 502, 503, 504)
_CHANGE = (401, 403, 404, 409, 429, 500, 503, 504)


def describe_api(models: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Describes the API for some models.

    Args:
        models: `ServedModel` or `UpstreamModel`, by name.
        rows: Examples that one request may hold.

    Returns:
        An OpenAPI 3.1 document.
    """
    paths: dict[str, Any] = {}
    name = _parameter("name", {"type": "string", "enum": sorted(models)})
    version = _parameter("version", {"type": "string", "pattern": r"^[0-9]{1,18}$"})
    label = _parameter("label", {"type": "string", "pattern": f"^{LABEL}$"})
    found = [model.find() for model in models.values() if model.ready]
    qualifiers = [("", [name]), ("/versions/{version}", [name, version])]
    if not all(hasattr(version, "release") for version in found):
        # Bundles have no labels; another server may know some.
        qualifiers.append(("/labels/{label}", [name, label]))
    for qualifier, parameters in qualifiers:
        path = "/v1/models/{name}" + qualifier
        for verb in ("predict", "classify", "regress"):
            able = [version for version in found if verb in version.verbs]
            if found and not able:
                continue
            bodies = [_body(verb, version, rows) for version in able]
            answer = "Predictions" if verb == "predict" else "Results"
            paths[f"{path}:{verb}"] = {
                "post": {
                    "summary": f"TensorFlow Serving's {verb.capitalize()}",
                    "operationId": f"{verb}{_suffix(qualifier)}",
                    "parameters": parameters,
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": _any(bodies)}},
                    },
                    "responses": _responses(answer, _INFERENCE),
                }
            }
        for verb, end, answer in (("status", "", "Status"), ("metadata", "/metadata", "Metadata")):
            paths[path + end] = {
                "get": {
                    "summary": f"TensorFlow Serving's model {verb}",
                    "operationId": f"{verb}{_suffix(qualifier)}",
                    "parameters": parameters,
                    "responses": _responses(answer, _INFORMATION),
                }
            }
    for change in ("reload", "rollback"):
        paths["/v1/models/{name}:" + change] = {
            "post": {
                "summary": f"{change.capitalize()} the bundle (scope admin)",
                "operationId": change,
                "parameters": [name],
                "responses": _responses("Version", _CHANGE),
            }
        }
    for place, address in (("", "/metrics"), ("Serving", "/monitoring/prometheus/metrics")):
        responses = _responses("Error", (401, 403, 429, 500, 503, 504))
        text = {"text/plain": {"schema": {"type": "string"}}}
        responses["200"] = {"description": "Metrics (scope metrics)", "content": text}
        paths[address] = {
            "get": {
                "summary": "Prometheus metrics",
                "operationId": f"metrics{place}",
                "responses": responses,
            }
        }
    for address, operation in (("/healthz", "live"), ("/readyz", "ready")):
        codes = (503,) if operation == "ready" else ()
        paths[address] = {
            "get": {
                "summary": f"Whether the server is {operation}",
                "operationId": operation,
                "security": [],
                "responses": _responses("Health", codes),
            }
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "keras_secure",
            "version": "1",
            "description": "Models in TensorFlow Serving's REST dialect, behind credentials.",
        },
        "security": [{"bearer": []}, {"key": []}],
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": _security()},
    }


def _suffix(qualifier: str) -> str:
    return {"": "", "/versions/{version}": "Version", "/labels/{label}": "Label"}[qualifier]


def _parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _responses(answer: str, codes: tuple[int, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {"200": {"description": "The answer", "content": _content(answer)}}
    for code in codes:
        found[str(code)] = {"description": _ERRORS[code], "content": _content("Error")}
        if code in (429, 503):
            # Spent budgets are told apart by the header's absence.
            found[str(code)]["headers"] = {"Retry-After": {"schema": {"type": "string"}}}
    return found


def _content(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF + name}}}


def _body(verb: str, version: Any, rows: int) -> dict[str, Any]:
    if verb == "predict":
        names = ["", *getattr(version, "signatures", {"serving_default": None})]
        return _one_body(version.inputs, rows, names)
    if not hasattr(version, "release"):
        return _strange_examples()
    return _examples(verb, version.release.input, rows)


def _any(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    different: list[dict[str, Any]] = []
    for schema in schemas:
        if schema not in different:
            different.append(schema)
    if len(different) == 1:
        return different[0]
    return {"anyOf": different} if different else {"type": "object"}


def _one_body(specs: dict[str, TensorSpec], rows: int, names: list[str]) -> dict[str, Any]:
    row = {name: _nested(spec, (spec.shape or (None,))[1:]) for name, spec in specs.items()}
    column = {name: _array(schema, 1, rows) for name, schema in row.items()}
    named = {"type": "object", "required": list(specs)}
    instances = [_array({**named, "properties": row, "additionalProperties": False}, 1, rows)]
    inputs: list[dict[str, Any]] = [{**named, "properties": column}]
    if len(specs) == 1:
        (schema,) = row.values()
        instances.append(_array(schema, 1, rows))
        inputs.append(_array(schema, 1, rows))
    properties = {
        "signature_name": {"type": "string", "enum": names},
        "instances": {"anyOf": instances},
        "inputs": {"anyOf": inputs},
    }
    return {
        "type": "object",
        "properties": properties,
        "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
    }


def _nested(spec: TensorSpec, shape: tuple[int | None, ...]) -> dict[str, Any]:
    if not shape:
        return _leaf(spec.dtype)
    inner = _nested(spec, shape[1:])
    return _array(inner, shape[0], shape[0])


def _array(items: dict[str, Any], low: int | None, high: int | None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "array", "items": items}
    if low is not None:
        schema["minItems"] = low
    if high is not None:
        schema["maxItems"] = high
    return schema


def _leaf(dtype: str) -> dict[str, Any]:
    if dtype == "bool":
        return {"type": "boolean"}
    if dtype == "string":
        encoded = {"type": "object", "required": ["b64"], "additionalProperties": False}
        encoded["properties"] = {"b64": {"type": "string", "contentEncoding": "base64"}}
        return {"anyOf": [{"type": "string"}, encoded]}
    if dtype in _BOUNDS:
        return {"type": "number", "minimum": -_BOUNDS[dtype], "maximum": _BOUNDS[dtype]}
    bits = int(dtype.removeprefix("u").removeprefix("int"))
    low, high = (0, 2**bits - 1) if dtype[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return {"type": "integer", "minimum": low, "maximum": high}


def _examples(verb: str, spec: TensorSpec, rows: int) -> dict[str, Any]:
    size = math.prod(size or 1 for size in (spec.shape or (None,))[1:])
    feature = _array(_leaf(spec.dtype), size, size)
    if size == 1:
        feature = {"anyOf": [feature, _leaf(spec.dtype)]}
    whole = {
        "type": "object",
        "required": [spec.name],
        "properties": {spec.name: feature},
        "additionalProperties": False,
    }
    empty = {"type": "object", "maxProperties": 0}
    names = ["", "serving_default", f"tensorflow/serving/{verb}"]
    signature = {"type": "string", "enum": names}
    # A feature stands in every example, or in the context that they share.
    return {
        "type": "object",
        "required": ["examples"],
        "properties": {"signature_name": signature},
        "anyOf": [
            {"properties": {"examples": _array(whole, 1, rows), "context": empty}},
            {
                "required": ["context"],
                "properties": {"examples": _array(empty, 1, rows), "context": whole},
            },
        ],
    }


def _strange_examples() -> dict[str, Any]:
    examples = {"type": "array", "minItems": 1, "items": {"type": "object"}}
    return {"type": "object", "required": ["examples"], "properties": {"examples": examples}}


def _schemas() -> dict[str, Any]:
    text: dict[str, Any] = {"type": "string"}
    anything: dict[str, Any] = {}
    return {
        "Error": _object({"error": text}),
        "Predictions": {
            "type": "object",
            "oneOf": [{"required": ["predictions"]}, {"required": ["outputs"]}],
            "properties": {"predictions": anything, "outputs": anything},
        },
        "Results": _object({"results": {"type": "array"}}),
        "Status": _object(
            {
                "model_version_status": {
                    "type": "array",
                    "items": _object(
                        {
                            "version": text,
                            "state": text,
                            "status": _object({"error_code": text, "error_message": text}),
                        }
                    ),
                }
            }
        ),
        "Metadata": _object(
            {"model_spec": {"type": "object"}, "metadata": _object({"signature_def": anything})}
        ),
        "Version": _object({"model": text, "version": {"type": "integer"}}),
        "Health": _object({"status": text}),
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _security() -> dict[str, Any]:
    return {
        "bearer": {"type": "http", "scheme": "bearer", "description": "API key or JWT"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
