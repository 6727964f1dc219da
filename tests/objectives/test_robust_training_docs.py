"""The page on robust training: its code runs as printed, and it speaks of every objective."""

import re
from pathlib import Path

import keras
import pytest

from keras_secure import objectives
from keras_secure.objectives import Objective

PAGE = Path(__file__).parents[2] / "docs" / "robust_training.md"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_code_runs_as_printed(capsys):
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) >= 7
    for block in blocks:
        if "keras.distillation" in block and not hasattr(keras, "distillation"):
            continue
        exec(compile(block, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert printed.count("Estimate(value=") == 3
    certified = names["ks"].certification.IntervalCertifier(names["model"])
    assert certified.norm == "linf"


def test_every_objective_is_labelled():
    rows = [line for line in TEXT.splitlines() if line.startswith("| `")]
    for name in objectives.__all__:
        value = getattr(objectives, name)
        if not issubclass(value, Objective) or name in ("Objective", "Standard"):
            continue
        (row,) = [line for line in rows if line.startswith(f"| `{name}")]
        assert re.search("certified|defence|regularizer|hurdle", row.split("|")[3]), row
    assert "**hurdle**" in next(line for line in rows if "DefensiveDistillation" in line)
