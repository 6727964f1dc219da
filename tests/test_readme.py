"""The README's code runs as printed."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.usefixtures("coarse_grid")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_opening_example_runs(digits):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    names = {}
    exec(compile(code, str(README), "exec"), names)
    x, y = digits
    # As many examples as the printed budget is meant for.
    many_x, many_y = np.tile(x[:1000], (12, 1, 1, 1)), np.tile(y[:1000], 12)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            # Few rectified units never begin to learn from some weights under noise and attack.
            keras.layers.Dense(32, activation="tanh"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    report = names["train"](model, many_x, many_y, x[1000:1100], y[1000:1100])
    assert report.num_examples == 100
    assert report.clean.value > 0.3  # ten classes: the private, robust model has learnt


def test_every_document_that_is_linked_exists():
    for document in [README, *README.parent.glob("docs/*.md"), *README.parent.glob("[A-Z]*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
