"""Damaged files of every format: nothing crashes, hangs or fills the memory.

A short run of what `benchmarks/fuzz_scanner.py` does for as long as is asked. Files are built and
damaged by seeds, so every failure names the case that repeats it.
"""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from scan_corpus.corpus import build_malicious
from scan_corpus.corruption import damage, damaged
from scan_corpus.fuzzing import Watch, fuzz, seeds

KINDS = (
    *("lambda-bytecode", "string-lookup-file", "compile-loss-lambda", "parameter-budget"),
    *("zip-traversal", "zip-duplicate-config", "h5-external-storage", "h5-virtual"),
    *("h5-training-config", "h5-nan", "h5-foreign-filter", "npz-object-field", "npz-shape-bomb"),
    *("npz-nan", "bundle-model", "archive-pickled-weights"),
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return seeds(folder, build_malicious(folder, mutations=1, only=KINDS))


@pytest.fixture(scope="module")
def saved_models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    kinds = ("graph-read-file", "saved-keras-metadata", "saved-constant-bomb")
    return seeds(folder, build_malicious(folder, mutations=1, only=kinds))


def test_damaged_files_are_read_to_the_end(files, tmp_path):
    done, problems = fuzz(files, tmp_path, cases=300, seed=1, direct=True)
    assert problems == []
    assert done["cases"] == 300
    # The damage must leave files of both kinds, or nothing was tried.
    assert done["flagged"] > 100


def test_damaged_files_are_scanned(files, tmp_path):
    done, problems = fuzz(files, tmp_path, cases=15, seed=2)
    assert problems == []
    assert done["flagged"] + done["refused"] + done["clean"] == 15


def test_damaged_saved_models_are_read_to_the_end(saved_models, tmp_path):
    done, problems = fuzz(saved_models, tmp_path, cases=100, seed=3, direct=True)
    assert problems == []
    assert done["flagged"] > 20


@pytest.mark.slow
def test_more_damaged_files_are_read_to_the_end(files, saved_models, tmp_path):
    _, problems = fuzz(files + saved_models, tmp_path, cases=5000, seed=4, direct=True)
    assert problems == []


def test_the_same_seed_does_the_same_damage(files):
    source = next(path for path in files if path.suffix == ".keras")
    data = source.read_bytes()
    first, second = (damaged(source.name, data, random.Random(5)) for _ in range(2))
    assert first == second
    assert first != data
    assert damaged(source.name, data, random.Random(6)) != first


def test_damage_stays_within_the_files_of_a_folder(saved_models, tmp_path):
    from shutil import copytree

    target = copytree(saved_models[0], tmp_path / "model")
    before = sorted(path.relative_to(target) for path in target.rglob("*"))
    damage(target, 3)
    assert sorted(path.relative_to(target) for path in target.rglob("*")) == before


class Broken:
    """Stands for a scanner with a fault, inside the worker that is watched."""

    def __init__(self, monkeypatch, fault):
        from scan_corpus import fuzzing

        class Faulty(fuzzing.subprocess.Popen):
            def __init__(self, command, **options):
                code = command[-1].replace("serve(", f"{fault}; serve(")
                super().__init__([*command[:-1], code], **options)

        monkeypatch.setattr(fuzzing.subprocess, "Popen", Faulty)


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("fuzzing.inspected = lambda path: 1 / 0", "ZeroDivisionError"),
        ("fuzzing.inspected = lambda path: __import__('os').abort()", "died"),
        ("fuzzing.inspected = lambda path: __import__('time').sleep(60)", "hangs"),
        ("fuzzing.inspected = lambda path: ([], len(b'x' * 200 * 2**20) > 0)", "takes"),
    ],
    ids=["exception", "death", "hang", "memory"],
)
def test_a_fault_would_be_noticed(files, monkeypatch, fault, problem):
    Broken(monkeypatch, f"from scan_corpus import fuzzing; {fault}")
    watch = Watch(direct=True, seconds=2 if problem == "hangs" else 60, mebibytes=150)
    try:
        assert problem in watch.scan(files[0]).problem
    finally:
        watch.close()
