"""The shape of every section of an audit, and the check that a section has it.

A section is a plain dictionary, so that callbacks, exports and scripts can fill it without
importing this room. Keys marked `Required` are needed by the report; the others are shown if given.
"""

from collections.abc import Mapping
from typing import Any, Required, TypedDict

import numpy as np

from keras_secure.errors import InputError


class DataSection(TypedDict, total=False):
    """The data set: its name, example counts and classes; `notes` says what was done to it."""

    name: Required[str]
    num_train: int
    num_test: int
    num_classes: int
    shape: tuple[int, ...]
    notes: list[str]


class ModelSection(TypedDict, total=False):
    """One trained model: clean test accuracy with its interval, and what it cost."""

    accuracy: Required[float]
    low: float
    high: float
    training_seconds: float
    num_parameters: int
    description: str


class RobustnessPoint(TypedDict, total=False):
    """Accuracy under attack at one attack size, with its interval."""

    epsilon: Required[float]
    accuracy: Required[float]
    low: Required[float]
    high: Required[float]


class RobustnessSection(TypedDict, total=False):
    """One curve per model, all measured by the same attack on the same examples."""

    curves: Required[dict[str, list[RobustnessPoint]]]
    attack: str
    norm: str
    num_examples: int


class BurnDownPoint(TypedDict, total=False):
    """Privacy spent after a number of optimizer steps."""

    step: Required[int]
    epsilon: Required[float]


class PrivacySection(TypedDict, total=False):
    """What the ledger says about the private model.

    `reasons_not_private` lists why the guarantee does not hold (a fixed noise seed, for example);
    `exact_metrics` names the values shown during training that were computed without noise.
    """

    epsilon: Required[float]
    target_delta: Required[float]
    target_epsilon: float
    noise_multiplier: float
    l2_norm_clip: float
    sampling: str
    accountant: str
    steps: int
    num_train: int
    model: str
    burn_down: list[BurnDownPoint]
    reasons_not_private: list[str]
    exact_metrics: list[str]


class WatermarkSection(TypedDict, total=False):
    """Whether the key's bits were read back from the exported weights."""

    bits: Required[int]
    ber: Required[float]
    p_value: Required[float]
    method: str
    layer: str
    model: str


class TamperTest(TypedDict, total=False):
    """A copy of the bundle with one byte flipped: was it refused, and which file was named?"""

    file: Required[str]
    detected: Required[bool]
    named: str | None


class IntegritySection(TypedDict, total=False):
    """The signed bundle: its files, whether it verified, and the tamper test."""

    verified: Required[bool]
    files: list[str]
    key_fingerprint: str
    tamper: TamperTest


class ServingSection(TypedDict, total=False):
    """The exported model in a fresh process, and what its guards did."""

    max_difference: float
    tolerance: float
    num_examples: int
    nan_handled: bool
    out_of_range_handled: bool
    guards: list[str]


class AdversarialExample(TypedDict, total=False):
    """One example before and after the attack, with the label each model gave it."""

    original: Required[np.ndarray]
    adversarial: Required[np.ndarray]
    label: Required[Any]
    before: dict[str, Any]
    after: dict[str, Any]


def require(section: str, values: Any, shape: Any) -> None:
    """Refuses a section that lacks a key the report needs, or has one it does not know.

    Args:
        section: Where the values stand, for the message, for example `"robustness"`.
        values: The mapping that was given.
        shape: One of the `TypedDict` classes of this module.

    Raises:
        InputError: Naming the section, the key, and the keys that are known.

    Example:

    >>> require("watermark", {"bits": 64, "ber": 0.0, "p_value": 1e-19}, WatermarkSection)
    """
    if not isinstance(values, Mapping):
        raise InputError(
            f"Audit section {section!r} is a {type(values).__name__}; expected a dictionary with "
            f"{', '.join(sorted(shape.__required_keys__)) or 'any of its keys'}."
        )
    known = shape.__required_keys__ | shape.__optional_keys__
    missing, unknown = shape.__required_keys__ - values.keys(), values.keys() - known
    if missing or unknown:
        problem = [f"lacks {', '.join(sorted(missing))}"] if missing else []
        problem += [f"has unknown {', '.join(sorted(map(str, unknown)))}"] if unknown else []
        raise InputError(
            f"Audit section {section!r} {' and '.join(problem)}; it takes "
            f"{', '.join(sorted(known))}."
        )
