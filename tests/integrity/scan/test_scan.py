import json
import os
import subprocess
import sys

import pytest

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity.scan import RULES, ScanLimits, ScanReport, run, scan

LAMBDA = {"module": "keras.layers", "class_name": "Lambda", "config": {}}


def test_a_clean_file_and_a_harmful_one(keras_file, sequential):
    report = scan(keras_file())
    assert report.ok
    assert report.worst == "ok"
    assert report.format == "keras"
    assert report.files == 4
    assert report.bytes > 500
    assert report.describe() == []
    report.raise_if_failed()
    harmful = scan(keras_file(sequential(LAMBDA)))
    assert not harmful.ok
    assert harmful.worst == "critical"
    assert "config.json > /config/layers/1" in harmful.describe()[0]
    with pytest.raises(IntegrityError, match=r"must not be loaded.*Lambda"):
        harmful.raise_if_failed()
    document = json.loads(json.dumps(harmful.to_dict()))
    assert document["ok"] is False
    assert document["findings"][0]["id"] == "scan.keras.lambda"


def test_neither_keras_nor_tensorflow_is_imported(keras_file):
    code = (
        "import sys; from keras_secure.integrity import scan; report = scan(sys.argv[1]); "
        "names = ('keras', 'tensorflow', 'h5py', 'numpy'); "
        "print(report.ok, [name for name in names if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(keras_file())], capture_output=True, text=True, check=True
    )
    assert result.stdout == "True []\n"


def test_what_is_allowed_and_limited_reaches_the_process(keras_file, sequential):
    custom = {"module": "my.layers", "class_name": "Mine", "config": {}}
    path = keras_file(sequential(custom))
    assert not scan(path).ok
    assert scan(path, allow=["my.layers>Mine"]).ok
    limited = scan(keras_file(), limits=ScanLimits(document=50))
    assert limited.findings[0].id == "scan.json.size"


def test_a_hostile_folder_cannot_replace_what_reads_it(keras_file, tmp_path, monkeypatch):
    """Modules beside the model are found first by a process that starts in its folder."""
    for name in ("numpy", "h5py", "json", "keras_secure"):
        (tmp_path / f"{name}.py").write_text("open('executed', 'w')")
    path = keras_file()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert scan(path.name).ok
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("path", ["missing.keras", "a\0b"])
def test_nothing_to_scan_is_unusable(path, tmp_path):
    with pytest.raises(InputError, match="cannot be scanned"):
        scan(tmp_path / path)


def test_unusable_arguments(keras_file, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        scan(tmp_path / "pipe")
    with pytest.raises(InputError, match="allow is"):
        scan(keras_file(), allow="my>Layer")
    with pytest.raises(InputError, match="limits is a dict"):
        scan(keras_file(), limits={})
    for value in (0, -1, float("inf"), float("nan"), "1", True):
        with pytest.raises(InputError, match="limit seconds"):
            ScanLimits(seconds=value)


FINDING = json.dumps(
    {"finding": {"id": "scan.keras.lambda", "severity": "critical", "statement": "It is."}}
)
ENDINGS = {
    "a crash": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "scan.file.crash"),
    "an abort": ("import os; os.abort()", "scan.file.crash"),
    "an error": ("raise SystemExit(3)", "scan.file.crash"),
    "a silent end": ("", "scan.file.crash"),
    "no end": ("import time; time.sleep(60)", "scan.limits.time"),
}


@pytest.mark.parametrize("case", ENDINGS)
def test_however_the_process_ends_is_a_finding(case, keras_file, monkeypatch):
    code, expected = ENDINGS[case]
    said = f"print({json.dumps({'enter': 'model.keras'})!r}); print({FINDING!r}, flush=True)\n"
    monkeypatch.setattr(run, "_START", said + "print('{\"half', flush=True)\n" + code)
    monkeypatch.setattr(run, "GRACE", 0.1)
    # Enough for a process to start on a busy machine, where it ends by itself.
    seconds = 3 if case == "no end" else 30
    report = scan(keras_file(), limits=ScanLimits(seconds=seconds))
    assert {f.id for f in report.findings} == {"scan.keras.lambda", expected}
    assert not report.ok
    assert report.worst == "critical"
    death = next(f for f in report.findings if f.id == expected)
    assert death.evidence["file"] == "model.keras"
    assert report.seconds < 30


def test_time_runs_out(keras_file):
    words = {"class_name": "Dense", "config": {"x": [{"a": "b"}] * 300_000}}
    path = keras_file(replaced={"config.json": json.dumps(words)})
    report = scan(path, limits=ScanLimits(seconds=0.3))
    assert "scan.limits.time" in {f.id for f in report.findings}


@pytest.mark.skipif(sys.platform != "linux", reason="the address space is limited on Linux")
def test_memory_runs_out(keras_file):
    path = keras_file(replaced={"config.json": "[" + "[1]," * 3_000_000 + "1]"})
    report = scan(path, limits=ScanLimits(memory=96 * 2**20))
    assert {"scan.limits.memory", "scan.file.crash"} & {f.id for f in report.findings}


def test_a_hole_buys_no_time(tmp_path):
    path = tmp_path / "model.h5"
    with path.open("wb") as file:
        file.truncate(2**40)
    if path.stat().st_blocks > 2**20:
        pytest.skip("the file system knows no holes")
    assert run._size(path, 1) < 2**20


def test_every_rule_says_what_to_do():
    for identifier, rule in RULES.items():
        assert identifier.startswith("scan.")
        assert rule.title
        assert rule.remedy or rule.severity == "info", identifier


def test_a_report_is_sorted_and_judged():
    assert ScanReport("x", "keras").ok
    from keras_secure.findings import Finding

    low = ScanReport("x", "keras", (Finding("scan.a", "low", "A."),))
    assert low.ok
    assert low.worst == "low"


def test_sarif_has_what_code_hosts_ask_for(keras_file, sequential, tmp_path):
    path = keras_file(sequential(LAMBDA), name="a model.keras")
    log = scan(path).to_sarif()
    assert json.loads(json.dumps(log)) == log
    assert log["version"] == "2.1.0"
    (run_,) = log["runs"]
    rules = run_["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for result in run_["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("none", "note", "warning", "error")
        assert result["message"]["text"]
        (location,) = result["locations"]
        uri = location["physicalLocation"]["artifactLocation"]["uri"]
        assert uri == path.as_uri()
    first = run_["results"][0]
    assert first["locations"][0]["logicalLocations"] == [
        {"fullyQualifiedName": "config.json > /config/layers/1"}
    ]
    folder = scan(tmp_path).to_sarif()
    uris = {
        result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for result in folder["runs"][0]["results"]
    }
    assert path.as_uri() in uris


def test_documentation_lists_every_rule():
    from pathlib import Path

    text = Path(__file__).parents[3].joinpath("docs/scanning.md").read_text(encoding="utf-8")
    assert [rule for rule in RULES if f"`{rule}`" not in text] == []
