import json
import subprocess
import sys

import numpy as np
import pytest

from keras_secure.cli import main as dispatch


def run(capsys, *arguments):
    options = dispatch.parse(["keras-secure", "scan", *map(str, arguments)])
    code = dispatch.main(options)
    return code, capsys.readouterr()


@pytest.fixture
def files(tmp_path):
    np.savez(tmp_path / "clean.npz", x=np.ones(3))
    np.savez(tmp_path / "harmful.npz", x=np.array([{}], dtype=object))
    return tmp_path


def test_exit_codes_and_text(files, capsys):
    code, printed = run(capsys, files / "clean.npz")
    assert code == 0
    assert printed.out.startswith("OK: ")
    code, printed = run(capsys, files / "harmful.npz")
    assert code == 1
    assert printed.out.startswith("critical: harmful.npz > x.npy: ")
    assert "[scan.numpy.pickle]" in printed.out
    assert "UNSAFE: " in printed.out
    code, printed = run(capsys, files / "missing.npz")
    assert code == 2
    assert "cannot be scanned" in printed.err


def test_forms(files, capsys):
    code, printed = run(capsys, files / "harmful.npz", "--format", "json")
    assert code == 1
    assert json.loads(printed.out)["findings"][0]["id"] == "scan.numpy.pickle"
    output = files / "report.sarif"
    code, printed = run(capsys, files / "harmful.npz", "--format", "sarif", "--output", output)
    assert code == 1
    assert printed.out == ""
    assert json.loads(output.read_text())["version"] == "2.1.0"
    code, printed = run(capsys, files / "clean.npz", "--output", files / "no/such/folder")
    assert code == 2
    assert "cannot be written" in printed.err


def test_the_command_loads_neither_keras_nor_tensorflow(files):
    code = (
        "import sys; from keras_secure.cli import main; "
        "main.main(main.parse(['keras-secure', 'scan', sys.argv[1]])); "
        "print([m for m in ('keras', 'tensorflow') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(files / "clean.npz")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == "[]"
