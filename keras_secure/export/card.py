"""The model card: what a bundle takes, gives and promises, in JSON."""

import json
import math
from dataclasses import asdict
from importlib.metadata import version as installed_version
from typing import Any

import keras

from keras_secure import backend
from keras_secure.errors import InputError, IntegrityError
from keras_secure.export.hardened_model import HardenedModel
from keras_secure.export.serving import INPUT_NAME
from keras_secure.export.signatures import DEFAULT
from keras_secure.export.status import Status
from keras_secure.layers import InputGuard

FORMAT = "keras_secure.bundle"
VERSION = 1
CARD_NAME = "model_card.json"


def make_card(
    hardened: HardenedModel,
    signatures: dict[str, dict[str, tuple[tuple[int | None, ...], str]]],
    formats: dict[str, dict[str, Any]],
    facts: dict[str, Any],
    metadata: dict[str, Any],
) -> dict[str, Any]:
    """Describes an exported model.

    Args:
        hardened: What is served.
        signatures: By signature, shape and dtype of everything that it returns, by name.
        formats: By format, what is known of its file beside the SavedModel.
        facts: What `Facts.to_dict` returned.
        metadata: The caller's own JSON-serializable entries.

    Returns:
        A JSON-serializable dictionary.
    """
    framework, version = backend.framework_version()
    told = {
        signature: {
            name: {"shape": list(size), "dtype": kind} for name, (size, kind) in outputs.items()
        }
        for signature, outputs in signatures.items()
    }
    predictions = told[DEFAULT]["predictions"]["shape"]
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": hardened.model.name,
        "num_parameters": int(hardened.model.count_params()),
        "num_classes": predictions[-1] if len(predictions) > 1 else None,
        "inputs": {INPUT_NAME: {"shape": list(hardened.shape), "dtype": hardened.dtype}},
        "outputs": told[DEFAULT],
        "signatures": told,
        "formats": formats,
        "status_codes": {status.name.lower(): int(status) for status in Status},
        "guards": {
            "input": _describe(hardened.input_guard),
            "defences": [_describe(layer) for layer in hardened.defences],
            "smoothing": None if hardened.smoothing is None else asdict(hardened.smoothing),
            "output": _describe(hardened.output_guard),
        },
        "promises": _promises(hardened),
        "versions": {
            "keras_secure": installed_version("keras-secure"),
            "keras": keras.__version__,
            framework: version,
        },
        "facts": facts,
        "metadata": metadata,
    }


def dump_card(card: dict[str, Any]) -> bytes:
    """The bytes of a card: readable, with sorted keys."""
    text = json.dumps(card, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def parse_card(data: bytes, name: str) -> dict[str, Any]:
    """Reads a card, or raises `IntegrityError` when it is not one that this version knows."""
    try:
        card = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(
            f"{name} is not valid JSON: {error}. Export the model again."
        ) from error
    known = isinstance(card, dict) and (card.get("format"), card.get("version"))
    if known != (FORMAT, VERSION):
        raise IntegrityError(
            f"{name} is not a model card of format {FORMAT!r} version {VERSION}. Export the model "
            "again, or use the version of keras_secure that wrote it."
        )
    return card


def check_metadata(metadata: Any, name: str = "metadata") -> dict[str, Any]:
    """Returns a plain copy of JSON-serializable metadata.

    Args:
        metadata: None for none, or a dictionary.
        name: What to call it.

    Raises:
        InputError: It is not a dictionary, or something in it has no place in JSON; the message
            names where.

    Example:

    >>> check_metadata({"privacy": {"epsilon": 3.0}, "seen": (1, 2)})
    {'privacy': {'epsilon': 3.0}, 'seen': [1, 2]}
    """
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise InputError(f"{name} is a {type(metadata).__name__}; a dictionary was expected.")
    return _plain(metadata, name, ())


def _plain(value: Any, where: str, above: tuple[int, ...]) -> Any:
    if id(value) in above:
        raise InputError(f"{where} contains itself, which JSON cannot hold. Leave it out.")
    above = (*above, id(value))
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise InputError(f"{where} has the key {key!r}; JSON has only text as keys.")
        return {key: _plain(item, f"{where}[{key!r}]", above) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{index}]", above) for index, item in enumerate(value)]
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    raise InputError(
        f"{where} is {value!r} of type {type(value).__name__}, which JSON cannot hold. Give "
        "numbers as finite int or float, arrays as lists, and everything else as text."
    )


def _describe(guard: Any) -> dict[str, Any] | None:
    if guard is None:
        return None
    own = {k: v for k, v in guard.get_config().items() if k not in ("name", "trainable", "dtype")}
    return {"class": type(guard).__name__, "config": json.loads(json.dumps(own, default=repr))}


def _promises(hardened: HardenedModel) -> list[str]:
    promises = [
        "Rejected examples are marked in 'rejected' and get all zeros as predictions.",
        "Every prediction is finite: an example that the model answers with a NaN is rejected.",
        "'status' tells what became of each example, by the codes of this card.",
    ]
    guard = hardened.input_guard
    if isinstance(guard, InputGuard):
        low, high = guard.bounds
        promises.append("An example with a NaN or an infinity in it is rejected.")
        promises.append(
            f"An example with a value outside [{low}, {high}], by more than {guard.tolerance}, is "
            "rejected."
            if guard.on_violation == "reject"
            else f"Finite values outside [{low}, {high}] are clipped to it"
            + (", and their example is flagged." if guard.on_violation == "flag" else ".")
        )
    if hardened.smoothing is not None:
        promises.append(
            "Predictions are the shares of votes under Gaussian noise; an answer is not that of "
            f"the smoothed classifier with a probability of at most {hardened.smoothing.alpha}"
            + ("." if hardened.smoothing.seed is None else ", were its noise not always the same.")
        )
    guard = hardened.output_guard
    if guard is not None:
        promises.append(f"Predictions pass through {type(guard).__name__}.")
    if getattr(guard, "min_confidence", None) is not None:
        promises.append(
            f"An example whose best class has a probability below {guard.min_confidence} is not "
            "answered."
        )
    return promises
