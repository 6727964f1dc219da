"""The bill of materials of a bundle: CycloneDX 1.6, with the model card in its own terms."""

import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_secure.integrity.times import format_time, now

BOM_NAME = "bom.json"
_MODEL = "model"
_PACKAGES = {"keras_secure": "keras-secure", "keras": "keras", "tensorflow": "tensorflow"}


def make_bom(card: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Lists what a bundle is made of.

    Args:
        card: Its model card.
        folder: Where its files are, but for the bill of materials itself and the signature.

    Returns:
        A JSON-serializable dictionary.

    Reference:
        CycloneDX 1.6 (ECMA-424), components of type machine-learning-model and data.
    """
    facts = card["facts"]
    packages = list(_packages(card["versions"]))
    datasets = [_dataset(number, each) for number, each in enumerate(facts.get("datasets", []))]
    files = [_file(path, folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    model: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": card["name"],
        **_given("version", facts.get("version")),
        **_given("description", facts.get("description")),
        **_given("licenses", licences(facts.get("licence", ""))),
        "modelCard": _model_card(card, datasets),
        "properties": list(_properties(card)),
    }
    used = [each["bom-ref"] for each in (*packages, *datasets, *files)]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": format_time(now()),
            "lifecycles": [{"phase": "build"}],
            "tools": {
                "components": [
                    {
                        "type": "application",
                        "name": "keras-secure",
                        "version": card["versions"]["keras_secure"],
                    }
                ]
            },
            "component": model,
        },
        "components": [*packages, *datasets, *files],
        "dependencies": [
            {"ref": _MODEL, "dependsOn": used},
            *({"ref": reference} for reference in used),
        ],
    }


def dump_bom(bom: dict[str, Any]) -> bytes:
    """The bytes of a bill of materials."""
    return (json.dumps(bom, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def licences(text: str) -> list[dict[str, Any]]:
    """A licence in CycloneDX's terms: an SPDX expression if it is one, else a name.

    Example:

    >>> licences("apache-2.0 or mit"), licences("Ask first")
    ([{'expression': 'Apache-2.0 OR MIT'}], [{'license': {'name': 'Ask first'}}])
    """
    if not text:
        return []
    try:
        from packaging.licenses import canonicalize_license_expression
    except ImportError:
        return [{"license": {"name": text}}]
    try:
        return [{"expression": str(canonicalize_license_expression(text))}]
    except ValueError:
        return [{"license": {"name": text}}]


def _given(name: str, value: Any) -> dict[str, Any]:
    return {name: value} if value else {}


def _packages(versions: dict[str, str]) -> Iterator[dict[str, Any]]:
    for name, version in versions.items():
        package = _PACKAGES.get(name, name)
        locator = f"pkg:pypi/{package}@{version}"
        yield {
            "type": "library",
            "bom-ref": locator,
            "name": package,
            "version": version,
            "purl": locator,
        }


def _dataset(number: int, dataset: dict[str, Any]) -> dict[str, Any]:
    count = dataset.get("num_examples")
    properties = [{"name": "keras_secure:use", "value": dataset.get("use", "")}]
    if count is not None:
        properties.append({"name": "keras_secure:num_examples", "value": str(count)})
    digest = dataset.get("sha256")
    return {
        "type": "data",
        "bom-ref": f"data/{number}",
        "name": dataset["name"],
        **_given("description", dataset.get("description")),
        **_given("hashes", [{"alg": "SHA-256", "content": digest}] if digest else []),
        **_given("licenses", licences(dataset.get("licence", ""))),
        "data": [{"type": "dataset", "name": dataset["name"]}],
        "properties": properties,
    }


def _file(path: Path, folder: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "type": "file",
        "bom-ref": f"file/{name}",
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


def _model_card(card: dict[str, Any], datasets: list[dict[str, Any]]) -> dict[str, Any]:
    facts = card["facts"]

    def formats(specs: dict[str, Any]) -> list[dict[str, str]]:
        return [
            {"format": f"{name}: {spec['dtype']} {spec['shape']}"} for name, spec in specs.items()
        ]

    parameters = {
        **_given("task", facts.get("task")),
        "modelArchitecture": card["name"],
        **_given("datasets", [{"ref": each["bom-ref"]} for each in datasets]),
        "inputs": formats(card["inputs"]),
        "outputs": formats(card["outputs"]),
    }
    metrics = list(_metrics(facts.get("robustness") or {}))
    return {
        "modelParameters": parameters,
        **_given("quantitativeAnalysis", {"performanceMetrics": metrics} if metrics else {}),
        **_given("considerations", _given("technicalLimitations", facts.get("limitations"))),
    }


def _metrics(robustness: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every accuracy in a report on robustness, with its interval."""
    attacks = robustness.get("attacks")
    named = {
        "clean": robustness.get("clean"),
        "worst case over the attacks": robustness.get("worst_case"),
        **{
            f"{each['name']}, {each['norm']} of {each['epsilon']}": each
            for each in (attacks if isinstance(attacks, list) else [])
            if {"name", "norm", "epsilon"} <= set(each)
        },
    }
    for name, figure in named.items():
        if isinstance(figure, dict) and {"accuracy", "low", "high"} <= set(figure):
            yield {
                "type": "accuracy",
                "value": str(figure["accuracy"]),
                "slice": name,
                "confidenceInterval": {
                    "lowerBound": str(figure["low"]),
                    "upperBound": str(figure["high"]),
                },
            }


def _properties(card: dict[str, Any]) -> Iterator[dict[str, str]]:
    facts = card["facts"]

    def entry(name: str, value: Any) -> dict[str, str]:
        return {"name": f"keras_secure:{name}", "value": str(value)}

    yield entry("num_parameters", card["num_parameters"])
    for promise in card["promises"]:
        yield entry("promise", promise)
    if "privacy" in facts:
        yield entry("privacy:epsilon", facts["privacy"]["epsilon"])
        yield entry("privacy:delta", facts["privacy"]["delta"])
    if "watermark" in facts:
        yield entry("watermark:commitment", facts["watermark"]["commitment"])
