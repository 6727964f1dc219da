"""Rooms import downwards, and one room alone knows TensorFlow."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import keras_secure

PACKAGE = Path(keras_secure.__file__).parent
ROOT = PACKAGE.parent

# It runs in a process of its own, in which there is neither Keras nor this library.
SCRIPT = "cli/demo/serve_saved_model.py"

FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def imported(text):
    """Every module that a source imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def offenders(forbidden, allowed=()):
    return [
        f"{path}: {module}"
        for path in FILES
        if not path.startswith(tuple(allowed))
        for module in sorted(imported((PACKAGE / path).read_text()))
        if module == forbidden or module.startswith(f"{forbidden}.")
    ]


def test_the_contracts_of_the_rooms():
    pytest.importorskip("importlinter", reason="import-linter is not installed (extra `dev`)")
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("this is an installed package, which has no contracts")
    finished = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "3 kept, 0 broken" in finished.stdout


def test_tensorflow_is_imported_by_the_backend_alone():
    assert offenders("tensorflow", allowed=["backend/", SCRIPT]) == []
    assert offenders("tensorflow") != []


def test_nothing_private_of_keras_is_imported():
    assert offenders("keras.src") == []
    # The scanner knows the names that files give the classes of Keras by, and imports nothing.
    named = [path for path in FILES if "keras.src" in (PACKAGE / path).read_text()]
    assert [path for path in named if not path.startswith("integrity/scan/")] == []


@pytest.mark.parametrize("module", ["cryptography", "dp_accounting", "matplotlib", "sklearn"])
def test_heavy_packages_are_imported_where_they_are_used(module):
    at_the_top = [
        path
        for path in FILES
        for node in ast.parse((PACKAGE / path).read_text()).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        and any(name.split(".")[0] == module for name in imported(ast.unparse(node)))
    ]
    assert at_the_top == []
    assert offenders(module) != []


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "misc"])
def test_every_file_is_named_for_its_one_concept(name):
    assert [path for path in FILES if name in Path(path).with_suffix("").parts] == []


def test_the_search_sees_every_way_to_import():
    source = "import a.b as c\nfrom d import e\ndef f():\n    from g.h import i\n"
    assert imported(source) == {"a.b", "d", "d.e", "g.h", "g.h.i"}
