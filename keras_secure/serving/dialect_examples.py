"""The part of TensorFlow Serving's dialect that asks by example: classify and regress.

Reference:
    TensorFlow Serving, RESTful API (`g3doc/api_rest.md`), "Classify and Regress API".
"""

import math
from typing import Any, Literal

import numpy as np

from keras_secure.serving.dialect import PredictRequest
from keras_secure.serving.refusal import malformed
from keras_secure.serving.tensors import TensorSpec, read_tensor, write_tensor


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
        raise malformed(f"The model cannot be asked to {method}: use :predict")
    examples = body.get("examples")
    if not isinstance(examples, list):
        raise malformed(f"When method is {method}, key 'examples' is expected and must be a list")
    if not examples:
        raise malformed("'examples' value is an empty array")
    context = body.get("context", {})
    if not isinstance(context, dict):
        raise malformed("Example must be JSON object")
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
        raise malformed(
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
        raise malformed("The model is no regressor, so it cannot be asked to regress: use :predict")
    if rejected is not None:
        predictions = np.where(rejected, np.float32("nan"), predictions)
    return {"results": write_tensor("predictions", predictions)}


def _feature(example: Any, context: dict[str, Any], name: str) -> Any:
    if not isinstance(example, dict):
        raise malformed("Example must be JSON object")
    if name in example and name in context:
        raise malformed(f"Feature: {name} stands in the context and in an example")
    features = {**context, **example}
    if features.keys() != {name}:
        raise malformed(f"An example must have the feature {name!r} and no other")
    value = features[name]
    return value if isinstance(value, list) else [value]
