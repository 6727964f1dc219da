"""The LiteRT (TensorFlow Lite) file of a bundle."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_secure import backend
from keras_secure.compression import quantized_weights
from keras_secure.errors import InputError
from keras_secure.export.formats.agreement import check_agreement
from keras_secure.export.formats.frozen import frozen_function
from keras_secure.export.formats.litert_calibrated import calibrated
from keras_secure.export.formats.litert_weights import with_integers
from keras_secure.export.serving import INPUT_NAME

LITERT_NAME = "model.tflite"
_SIGNATURE = "serving_default"


def write_litert(folder: Path, hardened: Any, calibration: Any = None) -> dict[str, Any]:
    """Writes `model.tflite` and runs it beside the served function.

    Quantized kernels are stored as 8-bit integers, 4-bit where they fit, with a scale for each
    output channel; the runtime makes floats of them when it loads the file.

    With `calibration` the model, not its guards, computes in 8-bit integers, activations too. Then
    its answers differ from those of the model that was tested, and the file is held against the
    served function around these answers; the card tells how often the first class is the same.

    Args:
        folder: The folder of the bundle.
        hardened: The `HardenedModel`.
        calibration: None, or examples of shape (n, ...), on which ranges of activations are
            measured.

    Returns:
        What the card says of the file.

    Raises:
        InputError: LiteRT cannot hold the served function, the file disagrees with it, or the
            extra `litert` is not installed.
    """
    _interpreter()
    _refuse_foreign(hardened.model)
    path = folder / LITERT_NAME
    report: dict[str, Any] = {"file": LITERT_NAME, "runtime": _runtime()}
    if calibration is None:
        function = frozen_function(hardened.function, hardened.variables)
        data = backend.litert_model(function, [(INPUT_NAME, hardened.shape, hardened.dtype)])
        path.write_bytes(with_integers(data, quantized_weights(hardened.model)))
        return {**report, "compared": check_agreement("litert", litert_runner(path), hardened)}
    data, model, examples = calibrated(hardened, calibration)
    path.write_bytes(data)
    run = _model_runner(model)
    report["compared"] = check_agreement("litert", litert_runner(path), hardened, run)
    exact = keras.ops.convert_to_numpy(hardened.model(examples, training=False))
    same = run(examples).argmax(axis=-1) == exact.argmax(axis=-1)
    return {**report, "calibrated": {"examples": len(examples), "same_class": float(same.mean())}}


def _refuse_foreign(model: Any) -> None:
    for layer in model._flatten_layers():
        if layer.compute_dtype in ("float16", "bfloat16", "float64"):
            raise InputError(
                f"Layer {layer.name!r} computes in {layer.compute_dtype}, and LiteRT in float32 "
                "alone. Build the model with the dtype policy 'float32', or leave 'litert' out of "
                "`formats`."
            )
        if getattr(layer, "quantization_mode", None):
            raise InputError(
                f"Layer {layer.name!r} was quantized by Keras, whose integer products LiteRT does "
                "not have. Quantize the float model with keras_secure.compression.quantize, or "
                "give calibration, or leave 'litert' out of `formats`."
            )


def _model_runner(data: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """The runner of a file with one input and one output."""
    runner = _interpreter()(model_content=data).get_signature_runner(_SIGNATURE)
    return lambda x: np.array(next(iter(runner(**{INPUT_NAME: x}).values())))


def litert_runner(path: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Loads a LiteRT file, as a function from an array to named arrays."""
    interpreter = _interpreter()(model_path=str(path))
    runner = interpreter.get_signature_runner(_SIGNATURE)

    def run(x):
        # Copied: the interpreter writes the next answers to the same memory.
        return {name: np.array(value) for name, value in runner(**{INPUT_NAME: x}).items()}

    return run


def _interpreter() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise InputError(
            "LiteRT files need the package ai-edge-litert. Install it with "
            "`pip install keras-secure[litert]`."
        ) from error
    return Interpreter


def _runtime() -> str:
    from importlib.metadata import version

    return f"ai-edge-litert {version('ai-edge-litert')}"
