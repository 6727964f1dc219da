"""Importing the package loads nothing heavy that Keras has not loaded already."""

import functools
import json
import os
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


# Imports what all of them share, then runs each code in a fork that nothing else has touched.
FORKS = """
import json, os, sys, traceback
first, codes = json.loads(sys.argv[1])
exec(first)
before = set(sys.modules)
for code in codes:
    process = os.fork()
    if not process:
        try:
            names = {"before": before, "sys": sys}
            exec(code, names)
            print(json.dumps([names["found"], None]), flush=True)
        except BaseException:
            print(json.dumps([None, traceback.format_exc()]), flush=True)
        os._exit(0)
    os.waitpid(process, 0)
"""


def run(code, *arguments):
    finished = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    return finished.stdout.splitlines()


REGISTERED = "keras.saving.get_registered_object('keras_secure>PGD')"
ADDED = "\nfound = sorted({name.split('.')[0] for name in set(sys.modules) - before})"
PACKAGE, EVERYTHING = "import keras_secure", EVERY_ROOM + "import keras_secure.cli.main"
ASKED = (
    *(code + ADDED for code in (PACKAGE, EVERYTHING, "import dp_accounting", "import sklearn")),
    f"import keras, keras_secure\nfound = str({REGISTERED})",
)


@functools.cache
def answers(missing):
    """What each code of `ASKED` leaves in `found`, and its error."""
    first = f"sys.modules.update(dict.fromkeys({list(missing)!r}))\nimport keras"
    lines = run(FORKS, json.dumps([first, ASKED]))
    return {code: json.loads(line) for code, line in zip(ASKED, lines, strict=True)}


def after_keras(code, missing=()):
    """What `code` finds where Keras is loaded and the packages `missing` cannot be found."""
    found, error = answers(tuple(missing))[code]
    assert error is None, error
    return found


def added_by(code, missing=()):
    """The modules that `code` loads after Keras, where the packages `missing` cannot be found."""
    return after_keras(code + ADDED, missing)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="each import is made in a fork")
CASES = pytest.mark.parametrize(
    "code", [PACKAGE, EVERYTHING], ids=["package", "every room and the command line"]
)


@needs_fork
@CASES
def test_nothing_heavy_is_loaded(code):
    added = added_by(code)
    assert "keras_secure" in added
    assert [name for name in HEAVY if name in added] == []


@needs_fork
@CASES
def test_nothing_heavy_is_asked_for(code):
    """Keras loads some of them on its own if they are there; here they are not."""
    assert "keras_secure" in added_by(code, missing=HEAVY)


@needs_fork
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
        "import keras_secure.registration",
        # As of the next: a room that imports Keras on its way.
        pytest.param("import keras_secure.privacy", marks=pytest.mark.slow),
        "import keras_secure.training",
        "from keras_secure.layers.bounds import *",
    ],
)
def test_components_are_registered_whatever_is_imported_first(code):
    code += f"\nimport keras\nprint({REGISTERED})"
    assert run(code) == ["<class 'keras_secure.attacks.pgd.PGD'>"]


@needs_fork
def test_components_are_registered_where_keras_was_there_before():
    found = after_keras(f"import keras, keras_secure\nfound = str({REGISTERED})")
    assert found == "<class 'keras_secure.attacks.pgd.PGD'>"
