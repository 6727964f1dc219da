"""The files of a bundle beside its SavedModel."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from keras_secure.errors import InputError
from keras_secure.export.formats.litert import write_litert
from keras_secure.export.formats.onnx import write_onnx

FORMATS = ("litert", "onnx")


def check_formats(
    formats: Sequence[str], hardened: Any, calibration: Any = None
) -> tuple[str, ...]:
    """Returns the formats that were asked for, each once.

    Args:
        formats: Some of `FORMATS`.
        hardened: The `HardenedModel`.
        calibration: See `write_litert`.

    Raises:
        InputError: One is not known, or cannot hold what is served.
    """
    listed = isinstance(formats, Iterable) and not isinstance(formats, str)
    if not listed or any(name not in FORMATS for name in formats):
        raise InputError(
            f"formats={formats!r} cannot be used: give a list of some of "
            f"{', '.join(map(repr, FORMATS))}. The SavedModel is always written."
        )
    if formats and hardened.smoothing is not None:
        raise InputError(
            f"smoothing draws new noise for every answer, which {' and '.join(formats)} files "
            "cannot do. Leave out `formats`, or export the model without smoothing as a second "
            "bundle."
        )
    if calibration is not None and "litert" not in formats:
        raise InputError(
            "calibration was given, which quantizes activations in LiteRT files alone. Add "
            "'litert' to `formats`, or leave it out."
        )
    return tuple(dict.fromkeys(formats))


def write_formats(
    folder: Path, hardened: Any, formats: Sequence[str], calibration: Any = None
) -> dict[str, dict[str, Any]]:
    """Writes a file for each format from the function that the SavedModel serves.

    Args:
        folder: The folder of the bundle.
        hardened: The `HardenedModel`.
        formats: What `check_formats` returned.
        calibration: See `write_litert`.

    Returns:
        What the card says of each: file, runtime, what was compared.

    Raises:
        InputError: A format cannot hold the served function, or its file answers otherwise.
    """
    writers: dict[str, Callable[[], dict[str, Any]]] = {
        "litert": lambda: write_litert(folder, hardened, calibration),
        "onnx": lambda: write_onnx(folder, hardened),
    }
    return {name: writers[name]() for name in formats}
