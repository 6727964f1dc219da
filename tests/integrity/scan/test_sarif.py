"""The log has the form that the standard asks for, whatever a hostile file says."""

import json
import re
from urllib.parse import unquote, urlsplit

import pytest

from keras_secure.findings import Finding
from keras_secure.integrity.scan import RULES, scan
from keras_secure.integrity.scan.sarif import sarif_log

# What SARIF 2.1.0 requires of each object, what else we use of it, and the kind of each property:
# a type, a set of values, the name of an object, or that in a list. Its schema allows nothing else.
TEXT = {"text": str}
OBJECTS = {
    "log": ({"version": {"2.1.0"}, "runs": ["run"]}, {"$schema": str}),
    "run": ({"tool": "tool"}, {"invocations": ["invocation"], "results": ["result"]}),
    "tool": ({"driver": "component"}, {}),
    "component": ({"name": str}, {"version": str, "rules": ["rule"]}),
    "rule": (
        {"id": str},
        {"shortDescription": "text", "defaultConfiguration": "configuration", "help": "text"},
    ),
    "text": (TEXT, {}),
    "configuration": ({}, {"level": {"none", "note", "warning", "error"}}),
    "invocation": ({"executionSuccessful": bool}, {}),
    "result": (
        {"message": "text"},
        {
            "ruleId": str,
            "ruleIndex": int,
            "level": {"none", "note", "warning", "error"},
            "locations": ["location"],
        },
    ),
    "location": ({}, {"physicalLocation": "physical", "logicalLocations": ["logical"]}),
    "physical": ({"artifactLocation": "artifact"}, {}),
    "artifact": ({}, {"uri": "uri"}),
    "logical": ({}, {"fullyQualifiedName": str}),
}
REFERENCE = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]*")


def check(value, kind):
    if isinstance(kind, type):
        assert type(value) is kind
    elif isinstance(kind, set):
        assert value in kind
    elif isinstance(kind, list):
        assert type(value) is list
        for item in value:
            check(item, kind[0])
    elif kind == "uri":
        assert REFERENCE.fullmatch(value)
        urlsplit(value)
    else:
        required, optional = OBJECTS[kind]
        known = required | optional
        # A bag of properties of one's own may stand in any object.
        assert value.keys() - known.keys() <= {"properties"}
        assert required.keys() <= value.keys()
        for name in known.keys() & value.keys():
            check(value[name], known[name])
        if "properties" in value:
            assert type(value["properties"]) is dict
            tags = value["properties"].get("tags", [])
            assert len(set(tags)) == len(tags)


def checked(log):
    log = json.loads(json.dumps(log, allow_nan=False))
    check(log, "log")
    for run in log["runs"]:
        rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
        assert len(set(rules)) == len(rules)
        for result in run["results"]:
            assert rules[result["ruleIndex"]] == result["ruleId"]
    return log


ODD = {
    "class_name": "Mine\u202e\x1b[2J\ud800",
    "module": float("nan"),
    "registered_name": 10**400,
    "config": {"a/b\x00": [float("inf"), "../../x", "__import__('os')"]},
}


def test_whatever_a_file_says_the_log_is_valid(keras_file, sequential, tmp_path):
    for name in ("plain.keras", "of two words%41.keras", "\udcff#?.keras"):
        path = keras_file(sequential(ODD), name=name)
        log = checked(scan(path).to_sarif())
        assert log["runs"][0]["results"]
    log = checked(scan(tmp_path).to_sarif())
    uris = {
        result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for result in log["runs"][0]["results"]
    }
    assert (tmp_path / "of two words%41.keras").as_uri() in uris


def test_without_findings_there_are_results_all_the_same(keras_file):
    log = checked(scan(keras_file()).to_sarif())
    assert log["runs"][0]["results"] == []
    assert log["runs"][0]["properties"] == {"ok": True}


def test_every_rule_can_be_reported():
    findings = [
        Finding(rule, RULES[rule].severity, "It is.", {"file": "a/b", "place": "c"})
        for rule in RULES
    ]
    log = checked(sarif_log("relative folder", findings, False))
    assert len(log["runs"][0]["tool"]["driver"]["rules"]) == len(RULES)
    location = log["runs"][0]["results"][0]["locations"][0]
    uri = location["physicalLocation"]["artifactLocation"]["uri"]
    assert unquote(uri) == "relative folder/a/b"


def test_the_schema_as_others_have_it_agrees(keras_file, sequential):
    model = pytest.importorskip("pydantic_sarif.model", reason="a peer: pydantic-sarif")
    schema = model.StaticAnalysisResultsFormatSarifVersion210JsonSchema
    log = json.loads(json.dumps(scan(keras_file(sequential(ODD))).to_sarif()))
    schema.model_validate(log)
    log["runs"][0]["results"][0]["severity"] = "high"
    with pytest.raises(ValueError, match="severity"):
        schema.model_validate(log)
