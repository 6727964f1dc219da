"""The ONNX file of a bundle."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_secure import backend
from keras_secure.compression import QuantizedWeight
from keras_secure.errors import InputError
from keras_secure.export.formats.agreement import check_agreement
from keras_secure.export.formats.frozen import frozen_function
from keras_secure.export.formats.packing import pack_pairs
from keras_secure.export.formats.stored import Compact, compact_weights
from keras_secure.export.serving import INPUT_NAME

ONNX_NAME = "model.onnx"
_OPSET = 18
_OPSET_WITH_INT4 = 21
# A batch of no examples makes ONNX Runtime 1.2x abort the whole process in these.
_FATAL_ON_NOTHING = {"GRU", "LSTM"}


def write_onnx(folder: Path, hardened: Any) -> dict[str, Any]:
    """Writes `model.onnx`, checks it, and runs it beside the served function.

    Quantized kernels are stored as 8-bit integers, 4-bit where they fit, and scales; kernels with
    few values as numbers of these.

    Args:
        folder: The folder of the bundle.
        hardened: The `HardenedModel`.

    Returns:
        What the card says of the file.

    Raises:
        InputError: ONNX cannot hold the served function, the file disagrees with it, or the extra
            `onnx` is not installed.
    """
    onnx = _import("onnx")
    stored = compact_weights(hardened.model)
    kernels = {v.path: v for v in hardened.variables if v.path in stored}
    inputs = [(INPUT_NAME, hardened.shape, hardened.dtype)]
    inputs += [(_argument(n), tuple(v.shape), v.dtype) for n, v in enumerate(kernels.values())]
    function = frozen_function(hardened.function, hardened.variables, list(kernels.values()))
    model = onnx.load_from_string(backend.onnx_model(function, inputs, _OPSET))
    _refuse_foreign(onnx, model)
    weights = [stored[path] for path in kernels]
    if any(_halved(weight) for weight in weights):
        model = onnx.version_converter.convert_version(model, _OPSET_WITH_INT4)
    for number, weight in enumerate(weights):
        _store(onnx, model.graph, _argument(number), weight)
    _name_batch(model.graph)
    path = folder / ONNX_NAME
    path.write_bytes(model.SerializeToString())
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:
        raise InputError(
            f"The ONNX file that was written is not valid: {error}. Leave 'onnx' out of `formats`."
        ) from error
    report: dict[str, Any] = {"file": ONNX_NAME, "opset": model.opset_import[0].version}
    try:
        import onnxruntime
    except ImportError:
        return {**report, "compared": None}
    report["runtime"] = f"onnxruntime {onnxruntime.__version__}"
    loops = sorted({node.op_type for node in model.graph.node} & _FATAL_ON_NOTHING)
    compared = check_agreement("onnx", onnx_runner(path), hardened, empty=not loops)
    if loops:
        compared["no_examples"] = f"not tried: ONNX Runtime aborts in {', '.join(loops)}"
    return {**report, "compared": compared}


def onnx_runner(path: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Loads an ONNX file into ONNX Runtime, as a function from an array to named arrays."""
    onnxruntime = _import("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it cannot run it raises, too
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda x: dict(zip(names, session.run(names, {INPUT_NAME: x}), strict=True))


def _import(name: str) -> Any:
    import importlib

    try:
        module = importlib.import_module(name)
        if name == "onnx":
            importlib.import_module("onnx.version_converter")
    except ImportError as error:
        raise InputError(
            f"ONNX files need the package {name}. Install it with `pip install keras-secure[onnx]`."
        ) from error
    return module


def _argument(number: int) -> str:
    return f"kernel_{number}"


def _refuse_foreign(onnx: Any, model: Any) -> None:
    foreign = sorted(
        {
            f"{node.op_type} ({node.name.rsplit('/', 1)[0]})"
            for node in model.graph.node
            if not onnx.defs.has(node.op_type, node.domain)
        }
    )
    if foreign:
        raise InputError(
            f"ONNX has no operation for {', '.join(foreign)}, which the served graph uses. Replace "
            "the guard or layer that needs it, or leave 'onnx' out of `formats`."
        )


def _halved(weight: Compact) -> bool:
    """Whether half a byte is enough for each integer."""
    if isinstance(weight, QuantizedWeight):
        return weight.bits <= 4
    return len(weight.values) <= 16


def _store(onnx: Any, graph: Any, name: str, weight: Compact) -> None:
    """Puts integers, and what makes floats of them, in the place of an input of the graph.

    A runtime computes the floats once, when it loads the file. `DequantizeLinear` would say the
    same, but ONNX Runtime and OpenVINO take it for a licence to round the activations to 8 bits as
    well, and then answer otherwise than the model that was tested; so they do for integers that are
    cast to floats, and not for those that are cast twice.
    """
    for value in [value for value in graph.input if value.name == name]:
        graph.input.remove(value)
    kinds = onnx.TensorProto
    widened = ("Cast", [f"{name}_integers"], f"{name}_wide", {"to": kinds.INT32})
    if isinstance(weight, QuantizedWeight):
        integers, floats, kind = weight.values, weight.scale, kinds.INT8
        steps = [
            widened,
            ("Cast", [f"{name}_wide"], f"{name}_float", {"to": kinds.FLOAT}),
            ("Mul", [f"{name}_float", f"{name}_floats"], name, {}),
        ]
    else:
        integers, floats, kind = weight.indices, weight.values, kinds.UINT8
        steps = [widened, ("Gather", [f"{name}_floats", f"{name}_wide"], name, {})]
    data = integers.tobytes()
    if _halved(weight):
        kind = kinds.INT4 if kind == kinds.INT8 else kinds.UINT4
        data = pack_pairs(integers)
    stored = onnx.helper.make_tensor(f"{name}_integers", kind, integers.shape, data, raw=True)
    graph.initializer.extend([stored, onnx.numpy_helper.from_array(floats, f"{name}_floats")])
    for place, (step, sources, result, options) in enumerate(steps):
        node = onnx.helper.make_node(step, sources, [result], f"{result}_{step}", **options)
        graph.node.insert(place, node)


def _name_batch(graph: Any) -> None:
    """Calls the size of the batch by its name, whatever the converter called it."""
    for value in (*graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if len(dims) and not dims[0].dim_value:
            dims[0].dim_param = "batch"
