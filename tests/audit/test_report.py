import json
import math
import os

import numpy as np
import pytest
from harness_audit import full_report

from keras_secure.audit import AuditReport, summary_table, write_report
from keras_secure.audit import write as write_module
from keras_secure.audit.render_json import render_json
from keras_secure.errors import InputError
from keras_secure.findings import SEVERITIES, Finding


def test_json_is_strict_and_complete():
    content = json.loads(render_json(full_report()), parse_constant=pytest.fail)
    assert set(content) == {
        *("title", "created", "environment", "baseline", "findings", "data", "models"),
        *("robustness", "privacy", "membership", "lira", "one_run", "watermark"),
        *("integrity", "serving"),
        *("adversarial_examples", "timings"),
    }
    assert content["membership"]["plain"]["auc"] > 0.5
    assert content["lira"]["plain"]["num_shadows"] == 16
    assert content["one_run"]["private"]["num_canaries"] == 400
    example = content["adversarial_examples"][0]
    assert example["linf_distance"] == pytest.approx(0.1)
    assert "original" not in example


def test_values_without_a_number_are_null_and_numpy_is_welcome():
    report = AuditReport(
        privacy={"epsilon": math.inf, "target_delta": np.float32(1e-5)},
        models={"plain": {"accuracy": np.float64(0.5), "num_parameters": np.int64(7)}},
        timings={"training": math.nan},
    )
    content = json.loads(render_json(report), parse_constant=pytest.fail)
    assert content["privacy"]["epsilon"] is None
    assert content["timings"] == {"training": None}
    assert content["models"]["plain"] == {"accuracy": 0.5, "num_parameters": 7}


def test_absent_sections_are_left_out():
    content = AuditReport().to_dict()
    assert set(content) == {"title", "created", "environment", "baseline", "findings"}
    assert content["findings"] == []
    assert content["environment"]["keras"].startswith("3.")
    assert content["created"].endswith("+00:00")


def test_findings_stand_with_the_worst_first():
    report = full_report(other_findings=[Finding("scan.pickle", "critical", "Code in a file.")])
    ranks = [SEVERITIES.index(finding.severity) for finding in report.findings]
    assert ranks == sorted(ranks, reverse=True)
    assert report.findings[0].id == "scan.pickle"


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"watermark": {"bits": 64}}, "'watermark' lacks ber, p_value; it takes ber, bits"),
        ({"watermark": {"bits": 1, "ber": 0, "p_value": 1, "pvalue": 1}}, "has unknown pvalue"),
        ({"models": {"plain": {}}}, r"\"models\['plain'\]\" lacks accuracy"),
        ({"robustness": {"curves": {"plain": [{"epsilon": 0.1}]}}}, "lacks accuracy, high, low"),
        ({"privacy": {"epsilon": 1, "target_delta": 1, "burn_down": [{"step": 1}]}}, "burn_down"),
        ({"integrity": {"verified": True, "tamper": {"file": "a"}}}, "lacks detected"),
        ({"data": "digits"}, "is a str; expected a dictionary"),
        ({"membership": {"plain": {"auc": 0.5}}}, "expected a MembershipReport"),
        ({"lira": {"plain": None}}, r"lira\['plain'\] is a NoneType"),
        ({"one_run": {"plain": 0.5}}, "expected a OneRunReport.*OneRunAudit.lower_bound"),
    ],
)
def test_a_wrong_section_is_named_at_once(section, words):
    with pytest.raises(InputError, match=words):
        AuditReport(**section)


def test_three_files_are_written_whole(tmp_path):
    paths = write_report(full_report(), tmp_path / "a" / "b")
    assert [path.name for path in paths] == ["report.html", "report.md", "report.json"]
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == sorted(
        path.name for path in paths
    )
    assert paths[0].read_text(encoding="utf-8").endswith("</html>\n")


def test_a_failure_leaves_the_old_report_and_no_scraps(tmp_path, monkeypatch):
    (tmp_path / "report.html").write_text("old")

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_report(full_report(), tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [
        ("report.html", "old")
    ]


def test_nothing_is_written_if_one_rendering_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(write_module, "render_json", lambda report: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(full_report(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_summary_is_aligned_and_fits():
    lines = summary_table(full_report()).splitlines()
    assert max(map(len, lines)) <= 100
    table = lines[: lines.index("")]
    assert len({len(line) for line in table}) == 1
    assert [line.split()[0] for line in table[2:]] == ["plain", "robust", "private"]
    assert "98.0%" in table[2]
    assert "10.0%" in table[2]
    assert "2.9" in table[4]
    assert any("p = 5.4e-20" in line for line in lines)


def test_summary_survives_absent_sections_and_wild_names():
    assert summary_table(AuditReport()) == ""
    names = {"x" * 300: {"accuracy": 0.5}, "\x1b[2Jboo\n": {"accuracy": 0.5}}
    text = summary_table(AuditReport(models=names))
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100
