"""Wrong input ends in one line and exit code 2, and leaves nothing behind."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_secure
from keras_secure.cli import main
from keras_secure.cli.demo import command, training
from keras_secure.errors import SecurityError


def run(*arguments):
    return main.main(main.parse(["keras-secure", *map(str, arguments)]))


def ours(text):
    """The lines that the command wrote, apart from what TensorFlow notes on its own."""
    return [line for line in text.splitlines() if line.startswith("keras-secure")]


def arrays(**changes):
    """Good arrays, with some replaced, or removed by None."""
    good = {
        "x_train": np.linspace(0, 1, 60 * 20, dtype="float32").reshape(60, 4, 5),
        "y_train": np.arange(60) % 3,
        "x_test": np.zeros((12, 4, 5), "float32"),
        "y_test": np.arange(12) % 3,
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working folder; training in it fails the test."""

    def train(*arguments):
        raise AssertionError("training began with input that cannot be used")

    for name in ("train_plain", "train_robust", "train_private"):
        monkeypatch.setattr(training, name, train)
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_the_installed_script_refuses_in_one_line(tmp_path):
    script = Path(sys.executable).with_name("keras-secure")
    start = [script] if script.exists() else [sys.executable, "-m", "keras_secure.cli.main"]
    finished = subprocess.run(
        [*start, "demo", "--dataset", "cats", "--output", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(keras_secure.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 2
    assert finished.stdout == ""
    (line,) = ours(finished.stderr)
    assert "'cats'" in line
    assert "digits" in line
    assert "Traceback" not in finished.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"x_test": None, "y_test": None}, "expected x_train, y_train, x_test, y_test"),
        ({"y_train": np.zeros(59, int)}, "59"),
        ({"x_test": np.zeros((12, 4, 6), "float32")}, "x_test"),
        ({"y_train": np.arange(60) % 3 - 1}, "-1"),
        ({"y_test": np.full(12, 7)}, "7"),
    ],
    ids=["wrong keys", "lengths", "shapes", "negative label", "label out of range"],
)
def test_arrays_that_cannot_be_used(place, tmp_path, capsys, changes, said):
    np.savez(tmp_path / "mine.npz", **arrays(**changes))
    assert run("demo", "--data", tmp_path / "mine.npz", "--output", "out") == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("keras-secure: mine.npz")
    assert said in line
    assert captured.out == ""
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dataset", "cats"], "'cats'"),
        (["--data", "nowhere.npz"], "no file nowhere.npz"),
        (["--data", ""], "folder"),
        (["--output", ""], "--output"),
        (["--target-epsilon", "0"], "--target-epsilon is 0.0"),
        (["--target-epsilon", "-1"], "--target-epsilon is -1.0"),
        (["--target-epsilon", "nan"], "--target-epsilon is nan"),
        (["--target-epsilon", "inf"], "--target-epsilon is inf"),
        (["--target-epsilon", "1e-9"], "--target-epsilon is 1e-09"),
        (["--attack-epsilon", "0"], "--attack-epsilon is 0.0"),
        (["--attack-epsilon", "1.5"], "--attack-epsilon is 1.5"),
        (["--attack-epsilon", "nan"], "--attack-epsilon is nan"),
        (["--attack-epsilon", "1e-12"], "--attack-epsilon is 1e-12"),
        (["--seed", "-1"], "--seed is -1"),
        (["--seed", str(2**32)], f"--seed is {2**32}"),
    ],
    ids=lambda value: "=".join(value) if isinstance(value, list) else "",
)
def test_options_that_cannot_be_used(place, capsys, arguments, said):
    assert run("demo", *arguments) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("keras-secure: ")
    assert said in line
    assert captured.out == ""
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("seed", command.SEEDS)
def test_every_allowed_seed_is_one_that_keras_takes(seed):
    keras.utils.set_random_seed(seed)


def test_a_folder_with_content_is_left_alone(place, capsys):
    (place / "out").mkdir()
    (place / "out" / "mine.txt").write_text("mine")
    assert run("demo", "--output", "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "not empty" in line
    assert [path.name for path in place.rglob("*")] == ["out", "mine.txt"]
    assert (place / "out" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("output", ["taken", "taken/out", "/proc/out"])
def test_a_place_that_cannot_be_written(place, capsys, output):
    if output.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("this system has no folder that refuses even the superuser")
    (place / "taken").write_text("mine")
    assert run("demo", "--output", output) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("keras-secure: ")
    assert output.split("/out")[0] in line
    assert [path.name for path in place.rglob("*")] == ["taken"]
    assert (place / "taken").read_text() == "mine"


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        (SecurityError("The guard failed."), 2, "keras-secure: The guard failed."),
        (OSError(28, "No space left", "out"), 2, "keras-secure: out: No space left"),
        (KeyboardInterrupt(), 130, "keras-secure: interrupted; nothing was written."),
    ],
)
def test_a_failure_half_way_leaves_nothing(place, monkeypatch, capsys, failure, code, said):
    seen = []

    def half_way(dataset, sizes, target_epsilon, folder, scratch):
        (folder / "models").mkdir()
        (folder / "models" / "plain.keras").write_bytes(b"half")
        seen.extend([folder, Path(scratch)])
        raise failure

    monkeypatch.setattr(command, "_run", half_way)
    assert run("demo", "--output", "new/out") == code
    assert ours(capsys.readouterr().err) == [said]
    assert list(place.iterdir()) == []
    assert not any(path.exists() for path in seen)


def test_an_error_of_ours_to_find_keeps_its_traceback(place, monkeypatch):
    def fail(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(command, "_run", fail)
    with pytest.raises(ZeroDivisionError):
        run("demo", "--output", "out")
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["defend"], "'defend'"),
        (["demo", "--seed", "one"], "--seed"),
        (["demo", "--target-epsilon", "much"], "--target-epsilon"),
        (["demo", "--dataset", "digits", "--data", "mine.npz"], "not allowed with"),
        (["demo", "--loud"], "--loud"),
        (["verify"], "--trust"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_wrong_usage(place, capsys, arguments, said):
    with pytest.raises(SystemExit) as caught:
        main.parse(["keras-secure", *arguments])
    assert caught.value.code == 2
    (line,) = ours(capsys.readouterr().err)
    assert "error: " in line
    assert said in line
    assert list(place.iterdir()) == []


def test_version(capsys):
    assert run("version") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"keras-secure {keras_secure.__version__}",
        f"python {platform.python_version()}",
        f"tensorflow {tf.__version__}",
        f"keras {keras.__version__}",
        f"dp-accounting {metadata.version('dp-accounting')}",
        f"numpy {np.__version__}",
    ]


def test_the_version_is_the_one_of_the_package():
    assert metadata.version("keras-secure") == keras_secure.__version__
