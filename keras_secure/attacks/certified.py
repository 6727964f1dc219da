"""Certified accuracy, beside what the attacks say."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_secure.attacks.estimates import Accuracy, MeanLoss
from keras_secure.errors import InputError


@dataclass(frozen=True)
class CertifiedAccuracy:
    """The share of examples that are right, provably so within a radius.

    A lower bound where robust accuracy is an upper one, of the classifier that was certified: a
    smoothed classifier is not the model inside it.

    Attributes:
        certifier: Class name of the certifier, or of the certificate if that was given.
        norm: Norm of the radii.
        curve: (radius, certified accuracy), ascending, from 0, where abstentions count as wrong.
        average_radius: Mean certified radius; wrong and abstaining count as 0.
        abstained: Share of the examples on which the certifier abstained.
        contradicted: Examples certified beyond the distance of an input that fools the model; None
            if no attack has this norm. Above 0 only if model and certified classifier differ, or
            the certifier is at fault.
        radius: Array of shape (num_examples,): certified radius, 0 where wrong or abstaining.
    """

    certifier: str
    norm: str
    curve: tuple[tuple[float, Accuracy], ...]
    average_radius: MeanLoss
    abstained: Accuracy
    contradicted: int | None
    radius: np.ndarray = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything but the radii one by one, ready for JSON."""
        abstained = self.abstained.to_dict()
        return {
            "certifier": self.certifier,
            "norm": self.norm,
            "curve": [{"radius": radius, **each.to_dict()} for radius, each in self.curve],
            "average_radius": self.average_radius.to_dict(),
            "abstained": {"share": abstained.pop("accuracy"), **abstained},
            "contradicted": self.contradicted,
        }


def certify(certifier, x, labels, radii, nearest, confidence):
    """Asks a certifier about examples.

    Args:
        certifier: Object with `certify(x)`, whose answer has `prediction` (class indices, negative
            for an abstention), `radius` and `norm`; or such an answer.
        x: Array of shape (num_examples, ...).
        labels: Int32 array of the true classes.
        radii: Radii of the curve, by norm.
        nearest: Distances of the nearest fooling inputs, by norm.
        confidence: Coverage of the intervals.

    Returns:
        A `CertifiedAccuracy`.

    Raises:
        InputError: If the certifier or its answer cannot be used.
    """
    able = callable(getattr(certifier, "certify", None))
    answer = certifier.certify(x) if able else certifier
    if not all(hasattr(answer, name) for name in ("prediction", "radius", "norm")):
        raise InputError(
            f"{certifier!r} cannot certify: give an object with `certify(x)`, such as those of "
            "keras_secure.certification, or a certificate with `prediction`, `radius` and `norm`."
        )
    prediction, radius = np.asarray(answer.prediction), np.asarray(answer.radius, "float64")
    if prediction.shape != (len(x),) or radius.shape != (len(x),):
        raise InputError(
            f"The certifier answered {len(x)} examples with predictions of shape "
            f"{prediction.shape} and radii of shape {radius.shape}; expected one each."
        )
    right = (prediction == labels) & (prediction >= 0)
    proven = np.where(right, radius, 0.0)
    norm = answer.norm
    curve = [
        (each, Accuracy.of(right & (radius >= each), confidence))
        for each in sorted({0.0, *radii.get(norm, ())})
    ]
    found = nearest.get(norm)
    contradicted = None if found is None else int((right & (found < radius) & (found > 0)).sum())
    return CertifiedAccuracy(
        certifier=type(certifier).__name__,
        norm=norm,
        curve=tuple(curve),
        average_radius=MeanLoss.of(proven, confidence),
        abstained=Accuracy.of(prediction < 0, confidence),
        contradicted=contradicted,
        radius=proven,
    )
