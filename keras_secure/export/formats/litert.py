"""The LiteRT (TensorFlow Lite) file of a bundle."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_secure import backend
from keras_secure.compression import quantized_weights
from keras_secure.errors import InputError
from keras_secure.export.formats.agreement import check_agreement
from keras_secure.export.formats.frozen import frozen_function
from keras_secure.export.formats.litert_weights import with_integers
from keras_secure.export.serving import INPUT_NAME

LITERT_NAME = "model.tflite"
_SIGNATURE = "serving_default"


def write_litert(folder: Path, served: Any) -> dict[str, Any]:
    """Writes `model.tflite` and runs it beside the served function.

    Quantized kernels are stored as 8-bit integers, 4-bit where they fit, with a scale for each
    output channel.

    Args:
        folder: The folder of the bundle.
        served: The `ServedModel`.

    Returns:
        What the card says of the file.

    Raises:
        InputError: LiteRT cannot hold the served function, the file disagrees with it, or the
            extra `litert` is not installed.
    """
    _interpreter()
    function = frozen_function(served.function, served.variables)
    data = backend.litert_model(function, [(INPUT_NAME, served.shape, served.dtype)])
    data = with_integers(data, quantized_weights(served.model))
    path = folder / LITERT_NAME
    path.write_bytes(data)
    compared = check_agreement("litert", litert_runner(path), served)
    return {"file": LITERT_NAME, "runtime": _runtime(), "compared": compared}


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
