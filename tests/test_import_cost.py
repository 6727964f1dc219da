"""Importing the package loads nothing heavy that Keras has not loaded already."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import keras_secure

ROOT = Path(keras_secure.__file__).parents[1]
HEAVY = ["cryptography", "dp_accounting", "matplotlib", "scipy", "sklearn"]

# Importing a room is no use of it.
EVERY_ROOM = "".join(
    f"import keras_secure.{name}\n"
    for name in sorted(set(keras_secure.__all__) - {"Finding", "SecureModel", "__version__"})
)


def run(code):
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    return finished.stdout.splitlines()


def added_by(code, missing=()):
    """The modules that `code` loads after Keras, where the packages `missing` cannot be found."""
    lines = run(
        "import json, sys\n"
        f"sys.modules.update(dict.fromkeys({list(missing)!r}))\n"
        "import keras\n"
        "before = set(sys.modules)\n"
        f"{code}\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in set(sys.modules) - before})))\n"
    )
    return json.loads(lines[-1])


CASES = pytest.mark.parametrize(
    "code",
    ["import keras_secure", EVERY_ROOM + "import keras_secure.cli.main"],
    ids=["package", "every room and the command line"],
)


@CASES
def test_nothing_heavy_is_loaded(code):
    added = added_by(code)
    assert "keras_secure" in added
    assert [name for name in HEAVY if name in added] == []


@CASES
def test_nothing_heavy_is_asked_for(code):
    """Keras loads some of them on its own if they are there; here they are not."""
    assert "keras_secure" in added_by(code, missing=HEAVY)


def test_a_heavy_module_would_be_noticed():
    assert "dp_accounting" in added_by("import dp_accounting")
    with pytest.raises(AssertionError, match="sklearn"):
        added_by("import sklearn", missing=HEAVY)


@pytest.mark.parametrize(
    "code", ["import keras_secure", "import keras_secure.integrity", "import keras_secure.cli.main"]
)
def test_files_can_be_judged_before_keras_or_tensorflow_is_there(code):
    loaded = "[name for name in ('keras', 'tensorflow') if name in sys.modules]"
    assert run(f"import sys\n{code}\nprint({loaded})") == ["[]"]


@pytest.mark.parametrize(
    "code",
    [
        "import keras_secure, keras",
        "import keras, keras_secure",
        "import keras_secure.registration",
        "import keras_secure.privacy",
        "import keras_secure.training",
        "from keras_secure.layers.bounds import *",
    ],
)
def test_components_are_registered_whatever_is_imported_first(code):
    code += "\nimport keras\nprint(keras.saving.get_registered_object('keras_secure>PGD'))"
    assert run(code) == ["<class 'keras_secure.attacks.pgd.PGD'>"]
