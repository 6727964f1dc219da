"""Everything that one audit measured, gathered in one place."""

import math
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import numpy as np

from keras_secure.audit import sections
from keras_secure.audit.judge import judge
from keras_secure.errors import InputError
from keras_secure.findings import SEVERITIES, Finding
from keras_secure.leakage import MembershipReport, OneRunReport


def environment() -> dict[str, str]:
    """The versions that produced the measurements, by name."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("keras-secure", "keras", "tensorflow", "numpy"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed as a package"
    return versions


@dataclass
class AuditReport:
    """Measurements of one audit; whatever was not measured is left out of every rendering.

    Args:
        title: Heading of the report.
        data: A `DataSection`.
        models: Model name to `ModelSection`, in the order to show.
        robustness: A `RobustnessSection`.
        privacy: A `PrivacySection`.
        membership: Model name to `MembershipReport` of the threshold attack.
        lira: Model name to `MembershipReport` of the likelihood ratio attack.
        one_run: Model name to `OneRunReport`.
        watermark: A `WatermarkSection`.
        integrity: An `IntegritySection`.
        serving: A `ServingSection`.
        adversarial_examples: `AdversarialExample`s for the picture row.
        timings: What was done to the seconds it took.
        baseline: Name of the model that the others are compared with.
        other_findings: Findings of other rooms (a scan, a model check), shown with the judged ones.
        created: When the audit was made, ISO 8601 in UTC.
        environment: Versions by name.

    Raises:
        InputError: If a section lacks a key that the report needs, or has an unknown one.

    Example:

    >>> report = AuditReport(watermark={"bits": 64, "ber": 0.0, "p_value": 5.4e-20})
    >>> [finding.id for finding in report.findings]
    ['watermark.ownership']
    """

    title: str = "Model security audit"
    data: sections.DataSection | None = None
    models: dict[str, sections.ModelSection] = field(default_factory=dict)
    robustness: sections.RobustnessSection | None = None
    privacy: sections.PrivacySection | None = None
    membership: dict[str, MembershipReport] = field(default_factory=dict)
    lira: dict[str, MembershipReport] = field(default_factory=dict)
    one_run: dict[str, OneRunReport] = field(default_factory=dict)
    watermark: sections.WatermarkSection | None = None
    integrity: sections.IntegritySection | None = None
    serving: sections.ServingSection | None = None
    adversarial_examples: list[sections.AdversarialExample] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    baseline: str = "plain"
    other_findings: list[Finding] = field(default_factory=list)
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    environment: dict[str, str] = field(default_factory=environment)

    def __post_init__(self):
        for name, shape in (
            ("data", sections.DataSection),
            ("robustness", sections.RobustnessSection),
            ("privacy", sections.PrivacySection),
            ("watermark", sections.WatermarkSection),
            ("integrity", sections.IntegritySection),
            ("serving", sections.ServingSection),
        ):
            if getattr(self, name) is not None:
                sections.require(name, getattr(self, name), shape)
        for name, model in self.models.items():
            sections.require(f"models[{name!r}]", model, sections.ModelSection)
        if self.robustness:
            for name, curve in self.robustness["curves"].items():
                for point in curve:
                    sections.require(f"robustness of {name!r}", point, sections.RobustnessPoint)
        if self.privacy:
            for spent in self.privacy.get("burn_down", []):
                sections.require("privacy burn_down", spent, sections.BurnDownPoint)
        if self.integrity and "tamper" in self.integrity:
            sections.require("integrity tamper", self.integrity["tamper"], sections.TamperTest)
        for example in self.adversarial_examples:
            sections.require("adversarial_examples", example, sections.AdversarialExample)
        for section, kind, source in (
            ("membership", MembershipReport, "threshold_membership_attack"),
            ("lira", MembershipReport, "lira"),
            ("one_run", OneRunReport, "OneRunAudit.lower_bound"),
        ):
            for name, measured in getattr(self, section).items():
                if not isinstance(measured, kind):
                    raise InputError(
                        f"{section}[{name!r}] is a {type(measured).__name__}; expected a "
                        f"{kind.__name__}: pass the result of keras_secure.leakage.{source}."
                    )

    @property
    def findings(self) -> list[Finding]:
        """What the measurements mean, the worst first."""
        return sorted(
            [*self.other_findings, *judge(self)],
            key=lambda finding: -SEVERITIES.index(finding.severity),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the audit as strict JSON values: no NaN, no arrays, absent sections left out."""
        content: dict[str, Any] = {
            "title": self.title,
            "created": self.created,
            "environment": self.environment,
            "baseline": self.baseline,
            "findings": [finding.to_dict() for finding in self.findings],
        }
        for name in ("data", "models", "robustness", "privacy", "watermark", "integrity"):
            content[name] = getattr(self, name)
        content["serving"] = self.serving
        for section in ("membership", "lira", "one_run"):
            content[section] = {
                name: measured.to_dict() for name, measured in getattr(self, section).items()
            }
        content["adversarial_examples"] = [
            _without_pixels(example) for example in self.adversarial_examples
        ]
        content["timings"] = self.timings
        return {
            key: _json_value(value)
            for key, value in content.items()
            if key == "findings" or value  # an empty list of findings is an answer too
        }


def _without_pixels(example: sections.AdversarialExample) -> dict[str, Any]:
    # The pictures are in the html; a number per pixel would bury everything else.
    moved = np.asarray(example["adversarial"], "float64") - np.asarray(
        example["original"], "float64"
    )
    return {
        "label": example["label"],
        "before": example.get("before", {}),
        "after": example.get("after", {}),
        "linf_distance": float(np.max(np.abs(moved), initial=0.0)),
        "l2_distance": float(np.sqrt(np.sum(moved**2))),
    }


def _json_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_json_value(item) for item in value]
    if isinstance(value, np.ndarray):
        return _json_value(value.tolist())
    if isinstance(value, np.generic):
        return _json_value(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)
