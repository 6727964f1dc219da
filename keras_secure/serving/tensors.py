"""Values of JSON as arrays and back, as TensorFlow Serving reads and writes them."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_secure.serving.refusal import malformed

DATA_TYPES = {
    "float16": "DT_HALF",
    "bfloat16": "DT_BFLOAT16",
    "float32": "DT_FLOAT",
    "float64": "DT_DOUBLE",
    "int8": "DT_INT8",
    "int16": "DT_INT16",
    "int32": "DT_INT32",
    "int64": "DT_INT64",
    "uint8": "DT_UINT8",
    "uint16": "DT_UINT16",
    "uint32": "DT_UINT32",
    "uint64": "DT_UINT64",
    "bool": "DT_BOOL",
    "string": "DT_STRING",
}
_FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class TensorSpec:
    """What a named tensor of a signature is.

    Args:
        name: Its name.
        dtype: Its type, a key of `DATA_TYPES`.
        shape: Its shape, with None for any size; None for any rank.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def metadata(self) -> dict[str, Any]:
        """The tensor's entry in a signature's metadata."""
        sizes = self.shape or ()
        return {
            "dtype": DATA_TYPES.get(self.dtype, "DT_INVALID"),
            "tensor_shape": {
                "dim": [{"size": str(-1 if n is None else n), "name": ""} for n in sizes],
                "unknown_rank": self.shape is None,
            },
            "name": self.name,
        }


def read_tensor(value: Any, spec: TensorSpec, has_constants: bool) -> np.ndarray:
    """Makes an array of a number, or of nested lists of them.

    Args:
        value: The parsed JSON.
        spec: What it must be.
        has_constants: Whether the text may hold `true` or `false`, which NumPy takes for numbers
            and TensorFlow Serving does not; False spares a look at every value.

    Returns:
        An array of the dtype and shape of `spec`; strings as an object array of bytes.

    Raises:
        Refusal: With status 400: it is ragged, of another type or shape, or a number does not fit.

    Example:

    >>> read_tensor([[1, 2.5]], TensorSpec("x", "float32", (None, 2)), False)
    array([[1. , 2.5]], dtype=float32)
    """
    if spec.dtype == "string":
        array = _strings(value, spec)
    else:
        if has_constants or spec.dtype == "bool":
            _check_constants(value, spec)
        array = _numbers(value, spec)
    if spec.shape is not None and not _fits(array.shape, spec.shape):
        expected = ",".join("?" if size is None else str(size) for size in spec.shape)
        got = ",".join(map(str, array.shape))
        raise malformed(f"Input {spec.name!r} has shape [{got}]; expected [{expected}]")
    return array


def write_tensor(name: str, array: np.ndarray) -> Any:
    """Makes a value for JSON of an array.

    Floats have the fewest digits that give the same float back. Strings of tensors whose name ends
    in `_bytes` are written as `{"b64": ...}`.

    Example:

    >>> write_tensor("predictions", np.array([0.1, 2.0], "float32"))
    [0.1, 2.0]
    """
    kind = array.dtype.kind
    if kind == "f" and array.dtype.itemsize < 8:
        return array.astype("U32").astype("float64").tolist()
    if kind in "OSU":
        return _text(array.tolist(), name.endswith("_bytes"))
    return array.tolist()


def _numbers(value: Any, spec: TensorSpec) -> np.ndarray:
    try:
        array = np.array(value)
    except (ValueError, OverflowError) as error:
        raise malformed(f"Input {spec.name!r}: lists of one level differ in length") from error
    kind, dtype = array.dtype.kind, spec.dtype
    if array.size == 0:
        return np.zeros(array.shape, "float32" if dtype == "bfloat16" else dtype)
    if dtype == "bool":
        return array if kind == "b" else _wrong_type(spec)
    if dtype in _FLOATS:
        return _floats(array, spec) if kind in "iuf" else _wrong_type(spec)
    if kind not in "iu":
        # NumPy has no type for whole numbers on both sides of 2**63.
        array = np.array(value, object)
        if any(type(item) is not int for item in array.flat):
            return _wrong_type(spec)
    bounds = np.iinfo(dtype)
    if array.min() < bounds.min or array.max() > bounds.max:
        raise malformed(f"Input {spec.name!r}: a number does not fit into {dtype}")
    return array.astype(dtype)


def _floats(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    # NumPy has no bfloat16; whoever computes in it rounds by itself.
    dtype = "float32" if spec.dtype == "bfloat16" else spec.dtype
    with np.errstate(over="ignore", invalid="ignore"):
        result = array.astype(dtype)
    if not np.array_equal(np.isfinite(array), np.isfinite(result)):
        raise malformed(f"Input {spec.name!r}: a number is beyond the range of {spec.dtype}")
    return result


def _check_constants(value: Any, spec: TensorSpec) -> None:
    """Refuses what is no constant where constants belong, and the other way round."""
    expected = spec.dtype == "bool"
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, bool) != expected:
            _wrong_type(spec)


def _strings(value: Any, spec: TensorSpec) -> np.ndarray:
    shape: list[int] = []
    level = [value]
    while level and isinstance(level[0], list):
        size = len(level[0])
        if any(not isinstance(item, list) or len(item) != size for item in level):
            raise malformed(f"Input {spec.name!r}: lists of one level differ in length")
        shape.append(size)
        level = [member for item in level for member in item]
    array = np.empty(len(level), object)
    array[:] = [_as_bytes(item, spec) for item in level]
    return array.reshape(shape)


def _as_bytes(item: Any, spec: TensorSpec) -> bytes:
    if isinstance(item, str):
        return item.encode("utf-8", "surrogatepass")
    if is_base64(item):
        try:
            return base64.b64decode(item["b64"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise malformed("Unable to base64 decode") from error
    return _wrong_type(spec)


def is_base64(item: Any) -> bool:
    """Whether a value of JSON is one of bytes, `{"b64": TEXT}`."""
    return isinstance(item, dict) and len(item) == 1 and isinstance(item.get("b64"), str)


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(
        size in (None, given) for given, size in zip(shape, expected, strict=True)
    )


def _text(value: Any, as_bytes: bool) -> Any:
    if isinstance(value, list):
        return [_text(item, as_bytes) for item in value]
    data = value.encode() if isinstance(value, str) else bytes(value)
    if as_bytes:
        return {"b64": base64.b64encode(data).decode()}
    return data.decode("utf-8", "replace")


def _wrong_type(spec: TensorSpec) -> Any:
    raise malformed(f"Input {spec.name!r}: a value is not of expected type: {spec.dtype}")
