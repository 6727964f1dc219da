"""Builds the corpus: malicious kinds, their mutations, and clean exports, with a list of them."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from scan_corpus import (  # noqa: F401  each registers its kinds
    archive_kinds,
    budget_kinds,
    config_kinds,
    file_name_kinds,
    folder_kinds,
    hdf5_kinds,
    numpy_kinds,
    saved_model_kinds,
    zip_reader_kinds,
)
from scan_corpus.kinds import KINDS
from scan_corpus.variants import Variant, drawn

HERE = Path(__file__).resolve().parent
VERSIONS = ("3.13.2", "3.14.1", "3.15.1")
LIST = "corpus.json"


@dataclass(frozen=True)
class Sample:
    """One file or folder of the corpus.

    Args:
        path: Relative to the corpus.
        kind: The malicious kind, or where a clean one comes from.
        malicious: Whether it must be flagged.
        family, harm, cve, effect: The kind's; empty for clean ones.
        changes: What tells a mutation from the plainest of its kind; empty for the plainest.
    """

    path: str
    kind: str
    malicious: bool
    family: str = ""
    harm: str = ""
    cve: str = ""
    effect: str = ""
    changes: tuple[str, ...] = ()


def limited(kind, variant):
    """The variant without the changes that its kind cannot have."""
    plain = Variant()
    fixed = {name: getattr(plain, name) for name in kind.fixed}
    kept = [change for change in variant.done if change.split("=")[0] not in kind.fixed]
    values = {name: getattr(variant, name) for name in variant.__dataclass_fields__}
    return Variant(**(values | fixed | {"done": tuple(kept)}))


def content(path):
    """All names and bytes of a file or folder."""
    if path.is_file():
        return path.name, path.read_bytes()
    return tuple(
        (str(one.relative_to(path)), os.readlink(one) if one.is_symlink() else one.read_bytes())
        for one in sorted(path.rglob("*"))
        if one.is_symlink() or one.is_file()
    )


def build_kind(kind, output, mutations, seed=0):
    """Writes the plainest of a kind and mutations of it, no two the same; yields samples."""
    seen, number = set(), 0
    shared = {"family": kind.family, "harm": kind.harm, "cve": kind.cve, "effect": kind.effect}
    variants = [Variant()]
    first = int.from_bytes(kind.name.encode(), "big") % 100_003 + 1_000_003 * seed + 1
    variants += [limited(kind, drawn(kind.family, first + at)) for at in range(20 * mutations)]
    for variant in variants:
        folder = output / "malicious" / kind.name / f"{number:02d}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        path = kind.build(folder, variant)
        found = hash(content(path))
        if found in seen:
            shutil.rmtree(folder)
            continue
        seen.add(found)
        changes = variant.done or (() if variant == Variant() else ("other values",))
        yield Sample(str(path.relative_to(output)), kind.name, True, **shared, changes=changes)
        number += 1
        if number > mutations:
            return


def build_malicious(output, mutations=3, seed=0, families=None, only=None):
    """Builds all kinds, or those of some families or names."""
    samples = []
    for kind in KINDS.values():
        if (families and kind.family not in families) or (only and kind.name not in only):
            continue
        samples += build_kind(kind, Path(output), mutations, seed)
    return samples


def build_clean(output, peers, python=sys.executable):
    """Runs `export_clean.py` under every Keras that `peers` has, and once for TensorFlow."""
    samples = []
    runs = [(f"keras-{version}", Path(peers) / f"env-keras-{version}") for version in VERSIONS]
    for name, environment in [*runs, ("tensorflow", None)]:
        target = Path(output) / "clean" / name
        shutil.rmtree(target, ignore_errors=True)
        command = [python, str(HERE / "export_clean.py"), str(target)]
        variables = {**os.environ, "KERAS_BACKEND": "tensorflow"}
        if environment is None:
            command.append("--other")
        elif not environment.is_dir():
            sys.exit(f"There is no {environment}; run benchmarks/peers/build_keras_versions.sh.")
        else:
            variables["PYTHONPATH"] = str(environment)
        finished = subprocess.run(command, capture_output=True, text=True, env=variables)
        if finished.returncode:
            sys.exit(finished.stderr[-4000:])
        for line in finished.stdout.splitlines():
            if line.startswith('{"name"'):
                path = Path(json.loads(line)["path"]).relative_to(output)
                samples.append(Sample(str(path), name, False))
    return samples


def write_list(output, samples):
    text = json.dumps([asdict(sample) for sample in samples], indent=1)
    (Path(output) / LIST).write_text(text)


def read_list(output):
    held = json.loads((Path(output) / LIST).read_text())
    return [Sample(**one | {"changes": tuple(one["changes"])}) for one in held]
