"""SARIF, the format in which static analysers report to code hosts."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from keras_secure.findings import Finding, Severity
from keras_secure.integrity.scan.rules import RULES

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS: dict[Severity, str] = {
    "ok": "none",
    "info": "note",
    "low": "note",
    "medium": "warning",
    "high": "error",
    "critical": "error",
}
# What dashboards sort by, on the scale of CVSS.
_SCORES: dict[Severity, str] = {
    "ok": "0.0",
    "info": "0.0",
    "low": "2.0",
    "medium": "5.0",
    "high": "8.0",
    "critical": "9.5",
}


def sarif_log(path: str, findings: Sequence[Finding], ok: bool) -> dict[str, Any]:
    """A SARIF 2.1.0 log with one run.

    Args:
        path: What was scanned.
        findings: The findings, each with `"file"` and `"place"` in its evidence.
        ok: Whether the scan passed.

    Returns:
        A JSON-serializable dictionary.

    Example:

    >>> log = sarif_log("model.keras", [], True)
    >>> log["version"], log["runs"][0]["results"]
    ('2.1.0', [])

    Reference:
        OASIS, Static Analysis Results Interchange Format (SARIF) version 2.1.0.
    """
    used = sorted({finding.id for finding in findings if finding.id in RULES})
    index = {rule: number for number, rule in enumerate(used)}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {"name": "keras-secure scan", "rules": [_rule(rule) for rule in used]}
                },
                "invocations": [{"executionSuccessful": True}],
                "results": [_result(path, finding, index) for finding in findings],
                "properties": {"ok": ok},
            }
        ],
    }


def _rule(identifier: str) -> dict[str, Any]:
    rule = RULES[identifier]
    described: dict[str, Any] = {
        "id": identifier,
        "shortDescription": {"text": rule.title},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {"security-severity": _SCORES[rule.severity], "tags": ["security"]},
    }
    if rule.remedy:
        described["help"] = {"text": rule.remedy}
    return described


def _result(path: str, finding: Finding, index: dict[str, int]) -> dict[str, Any]:
    file, inner = str(finding.evidence.get("file", "")), str(finding.evidence.get("place", ""))
    location: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": _uri(path, file)}},
    }
    if inner:
        location["logicalLocations"] = [{"fullyQualifiedName": inner}]
    result: dict[str, Any] = {
        "ruleId": finding.id,
        "level": _LEVELS[finding.severity],
        "message": {"text": finding.statement},
        "locations": [location],
        "properties": {"severity": finding.severity, "evidence": finding.evidence},
    }
    if finding.id in index:
        result["ruleIndex"] = index[finding.id]
    return result


def _uri(path: str, file: str) -> str:
    whole = Path(path)
    if file not in ("", ".") and not (whole.name == file and not whole.is_dir()):
        whole = whole / file
    text = whole.as_posix()
    uri = quote(text.encode("utf-8", "surrogateescape"))
    return f"file://{uri}" if os.path.isabs(text) else uri
