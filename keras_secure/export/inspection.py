"""What is in a bundle, for people to read."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_secure import backend
from keras_secure.errors import InputError, IntegrityError
from keras_secure.export.bom import BOM_NAME
from keras_secure.export.card import CARD_NAME, parse_card
from keras_secure.export.saved_model import SAVED_MODEL_NAME
from keras_secure.integrity import VerificationReport, verify


@dataclass(frozen=True)
class Weight:
    """A tensor of a bundle's model.

    Attributes:
        shape: Its shape.
        dtype: Its dtype, of integers where weights are stored so.
        norm: Its Euclidean norm.
        zeros: The share of its values that are 0.
        levels: How many different values it holds.
        sha256: Digest of its bytes.
        values: The array itself.
    """

    shape: tuple[int, ...]
    dtype: str
    norm: float
    zeros: float
    levels: int
    sha256: str
    values: np.ndarray = field(repr=False, compare=False)

    @classmethod
    def of(cls, values: np.ndarray) -> "Weight":
        """Describes an array."""
        exact = values.astype("float64")
        return cls(
            tuple(values.shape),
            str(values.dtype),
            float(np.linalg.norm(exact)),
            float(np.mean(exact == 0)) if values.size else 0.0,
            len(np.unique(exact)),
            hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest(),
            values,
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything but the values, ready for JSON."""
        told = {key: value for key, value in vars(self).items() if key != "values"}
        return {**told, "shape": list(self.shape)}


@dataclass(frozen=True)
class BundleSummary:
    """What `inspect` found.

    Attributes:
        path: The bundle's folder.
        card: Its model card.
        bom: Its bill of materials, or None.
        files: Size in bytes of every file, by name.
        operations: How often each operation stands in the SavedModel.
        weights: A `Weight` for each tensor of the model, by name.
        verification: The `VerificationReport`, or None where no trust was given.
    """

    path: Path
    card: dict[str, Any]
    bom: dict[str, Any] | None
    files: dict[str, int]
    operations: dict[str, int]
    weights: dict[str, Weight]
    verification: VerificationReport | None

    def describe(self) -> list[str]:
        """The summary in lines of text."""
        return list(_lines(self))

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        verification = self.verification
        return {
            "path": str(self.path),
            "card": self.card,
            "bom": self.bom,
            "files": self.files,
            "operations": self.operations,
            "weights": {name: weight.to_dict() for name, weight in self.weights.items()},
            "verification": None if verification is None else verification.to_dict(),
        }


def inspect(path: str | os.PathLike, trust: Any = None) -> BundleSummary:
    """Reads what a bundle says of itself and what is in its graph; nothing of it is run.

    Args:
        path: The bundle's folder.
        trust: Whom to believe, as for `keras_secure.integrity.verify`. With None nothing is
            verified, so that anything in it may be made up.

    Returns:
        A `BundleSummary`.

    Raises:
        IntegrityError: It does not verify, or a file of it cannot be read.
        InputError: There is no bundle at `path`.

    Example:

    >>> import tempfile
    >>> import keras
    >>> from keras_secure.export import export_hardened
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="top")])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bundle = export_hardened(model, f"{folder}/bundle")
    ...     [weight.shape for weight in inspect(bundle.path).weights.values()]
    [(3,), (4, 3)]
    """
    root = Path(path)
    card_path = root / CARD_NAME
    if not card_path.is_file():
        raise InputError(
            f"There is no {CARD_NAME} in {path}, so it is not a bundle. "
            "Give a folder that export_hardened wrote."
        )
    report = None
    if trust is not None:
        report = verify(root, trust)
        report.raise_if_failed()
    card = parse_card(card_path.read_bytes(), str(card_path))
    bom_path = root / BOM_NAME
    try:
        bom = json.loads(bom_path.read_bytes()) if bom_path.is_file() else None
        operations, weights = backend.read_served_model(str(root / SAVED_MODEL_NAME))
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityError(f"The bundle {path} cannot be read: {error}") from error
    files = {
        file.relative_to(root).as_posix(): file.stat().st_size
        for file in sorted(root.rglob("*"))
        if file.is_file()
    }
    described = {name: Weight.of(values) for name, values in weights.items()}
    return BundleSummary(root, card, bom, files, operations, described, report)


def _lines(summary: BundleSummary) -> Iterator[str]:
    card = summary.card
    facts = card.get("facts") or {}
    yield f"{card['name']}: {card['num_parameters']:,} parameters, {summary.path}"
    if summary.verification is None:
        yield "not verified: no trusted key was given"
    else:
        signers = ", ".join(signer.fingerprint for signer in summary.verification.signers)
        yield f"intact and signed by {signers}"
    for name, outputs in card["signatures"].items():
        told = ", ".join(f"{key} {each['dtype']}{each['shape']}" for key, each in outputs.items())
        yield f"signature {name}: {told}"
    for promise in card["promises"]:
        yield f"promise: {promise}"
    robustness = facts.get("robustness") or {}
    for name in ("clean", "worst_case"):
        figure = robustness.get(name)
        if isinstance(figure, dict) and {"accuracy", "low", "high"} <= set(figure):
            yield (
                f"accuracy, {name.replace('_', ' ')}: {figure['accuracy']:.2%} "
                f"({figure['low']:.2%} to {figure['high']:.2%})"
            )
    if "privacy" in facts:
        yield facts["privacy"]["statement"].splitlines()[0]
    for name in ("licence", "version", "watermark", "training", "datasets", "limitations"):
        if name in facts:
            yield f"{name}: {json.dumps(facts[name], ensure_ascii=False)}"
    for name, size in summary.files.items():
        yield f"file {name}: {size:,} bytes"
    for name, weight in summary.weights.items():
        yield (
            f"weight {name}: {weight.dtype}{list(weight.shape)}, norm {weight.norm:.6g}, "
            f"{weight.zeros:.1%} zeros, {weight.levels:,} values"
        )
    total = sum(summary.operations.values())
    common = sorted(summary.operations.items(), key=lambda item: (-item[1], item[0]))[:8]
    yield f"graph: {total} operations, " + ", ".join(f"{name} {count}" for name, count in common)
