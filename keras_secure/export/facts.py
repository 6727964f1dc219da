"""What is known of a model and cannot be seen in it: data, training, measurements, promises."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_secure.errors import InputError
from keras_secure.privacy import Phase, epsilon, privacy_statement
from keras_secure.watermark import Commitment


def data_digest(*arrays: Any) -> str:
    """SHA-256 over arrays: their dtypes, shapes and values, in the order given.

    Args:
        arrays: NumPy arrays or what converts to them.

    Returns:
        64 hexadecimal digits, the same on every machine.

    Example:

    >>> data_digest(np.arange(3, dtype="int32"))[:12]
    '055fad23c9f8'
    """
    digest = hashlib.sha256()
    for array in arrays:
        array = np.asarray(array)
        if array.dtype.hasobject:
            raise InputError("An array of objects has no bytes of its own; give one of numbers.")
        # Little-endian, in C order, whatever the machine and the array have.
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest.update(json.dumps([array.dtype.str, list(array.shape)]).encode() + b"\n")
        digest.update(array.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Dataset:
    """Data that a model was trained or measured with.

    Args:
        name: What it is called.
        sha256: Its digest, as `data_digest` gives it, or of its file.
        use: What for, such as `"training"` or `"evaluation"`.
        licence: An SPDX expression, or a name.
        num_examples: How many examples.
        description: More about it, and where it came from.

    Raises:
        InputError: `sha256` is no digest.

    Example:

    >>> Dataset("digits", data_digest(np.zeros((2, 64)), np.arange(2)), num_examples=2).use
    'training'
    """

    name: str
    sha256: str = ""
    use: str = "training"
    licence: str = ""
    num_examples: int | None = None
    description: str = ""

    def __post_init__(self):
        if self.sha256 and not (
            len(self.sha256) == 64 and set(self.sha256) <= set("0123456789abcdef")
        ):
            raise InputError(
                f"sha256={self.sha256!r} of data {self.name!r}; 64 lower-case hexadecimal digits "
                "were expected, as `data_digest` gives them."
            )


@dataclass(frozen=True)
class Facts:
    """What the model card and the bill of materials say beside what is read from the model.

    Nothing of it is measured when a model is exported: it is told by whoever trained and tested.

    Args:
        description: What the model does.
        version: Of the model, as its owner counts.
        task: Such as `"image classification"`.
        training: How it was trained: a dictionary, such as attack, epochs, optimizer.
        robustness: What was measured: a `RobustnessReport`, or anything else with `to_dict()`, or a
            dictionary.
        privacy: The executed phases of private training, as a `Ledger` holds them, or a
            `DPOptimizer` that was trained with.
        target_delta: The delta at which epsilon is told; needed with `privacy`.
        watermark: The `Commitment` to a mark; never the key or the opening.
        licence: An SPDX expression, or a name.
        datasets: `Dataset`s.
        limitations: Sentences on what it must not be used for, or does badly.

    Raises:
        InputError: `privacy` comes without `target_delta`, or something is of another kind.

    Example:

    >>> facts = Facts(licence="Apache-2.0", training={"epochs": 5})
    >>> facts.to_dict()["training"]
    {'epochs': 5}
    """

    description: str = ""
    version: str = ""
    task: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    robustness: Any = None
    privacy: Any = None
    target_delta: float | None = None
    watermark: Commitment | None = None
    licence: str = ""
    datasets: Sequence[Dataset] = ()
    limitations: Sequence[str] = ()

    def __post_init__(self):
        if self.privacy is not None and self.target_delta is None:
            raise InputError("A privacy statement needs target_delta, below 1 / examples.")
        if self.watermark is not None and not isinstance(self.watermark, Commitment):
            raise InputError(
                f"watermark is a {type(self.watermark).__name__}; the Commitment that "
                "keras_secure.watermark.commit returned was expected, and nothing secret."
            )
        if not all(isinstance(each, Dataset) for each in self.datasets):
            raise InputError(
                "datasets holds something other than keras_secure.export.Dataset. "
                "Wrap each entry in one."
            )
        if isinstance(self.limitations, str):
            raise InputError("limitations is text; a list of sentences was expected.")

    def to_dict(self) -> dict[str, Any]:
        """Everything that was given, as the card has it."""
        robustness = self.robustness
        told: dict[str, Any] = {
            "description": self.description,
            "version": self.version,
            "task": self.task,
            "training": self.training,
            "robustness": robustness.to_dict() if hasattr(robustness, "to_dict") else robustness,
            "privacy": None if self.privacy is None else self._privacy(),
            "watermark": None if self.watermark is None else _committed(self.watermark),
            "licence": self.licence,
            "datasets": [
                {key: value for key, value in vars(each).items() if value not in ("", None)}
                for each in self.datasets
            ],
            "limitations": list(self.limitations),
        }
        return {
            key: _tidied(value) for key, value in told.items() if value not in ("", None, {}, [])
        }

    def _privacy(self) -> dict[str, Any]:
        source, delta = self.privacy, self.target_delta
        if hasattr(source, "privacy_statement"):
            spent, statement = source.epsilon(delta), source.privacy_statement(delta)
        else:
            phases = [source] if isinstance(source, Phase) else list(source)
            spent, statement = epsilon(phases, delta), privacy_statement(phases, delta)
        return {
            "epsilon": spent if math.isfinite(spent) else None,
            "delta": delta,
            "statement": statement,
        }


def _committed(commitment: Commitment) -> dict[str, Any]:
    return {
        "commitment": commitment.digest,
        "created": commitment.created,
        "signers": list(commitment.signers),
        "timestamps": [stamp.kind for stamp in commitment.timestamps],
    }


def _tidied(value: Any) -> Any:
    """Reports hold numbers of NumPy's, and infinities where nothing was found."""
    if isinstance(value, dict):
        return {str(key): _tidied(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_tidied(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
