"""The files of a bundle beside its SavedModel."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keras_secure.errors import InputError
from keras_secure.export.formats.litert import write_litert
from keras_secure.export.formats.onnx import write_onnx

_WRITERS: dict[str, Callable[[Path, Any], dict[str, Any]]] = {
    "litert": write_litert,
    "onnx": write_onnx,
}
FORMATS = tuple(_WRITERS)


def check_formats(formats: Sequence[str], served: Any) -> tuple[str, ...]:
    """Returns the formats that were asked for, each once.

    Args:
        formats: Some of `FORMATS`.
        served: The `ServedModel`.

    Raises:
        InputError: One is not known, or cannot hold what is served.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if isinstance(formats, str) or unknown:
        raise InputError(
            f"formats={formats!r} cannot be used: give a list of some of "
            f"{', '.join(map(repr, FORMATS))}. The SavedModel is always written."
        )
    if formats and served.smoothing is not None:
        raise InputError(
            f"smoothing draws new noise for every answer, which {' and '.join(formats)} files "
            "cannot do. Leave out `formats`, or export the model without smoothing as a second "
            "bundle."
        )
    return tuple(dict.fromkeys(formats))


def write_formats(folder: Path, served: Any, formats: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Writes a file for each format from the function that the SavedModel serves.

    Args:
        folder: The folder of the bundle.
        served: The `ServedModel`.
        formats: What `check_formats` returned.

    Returns:
        What the card says of each: file, runtime, what was compared.

    Raises:
        InputError: A format cannot hold the served function, or its file answers otherwise.
    """
    return {name: _WRITERS[name](folder, served) for name in formats}
