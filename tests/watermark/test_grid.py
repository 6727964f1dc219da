"""The benchmark grid, small, and the thief's tricks that it is made of."""

import importlib
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def grid():
    if not BENCHMARKS.is_dir():
        pytest.skip("the benchmarks are not part of an installed package")
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("watermark_grid")
    sys.path.remove(str(BENCHMARKS))


def test_one_command_prints_the_grid(grid, capsys, tmp_path):
    arguments = ["--families", "mnist-cnn", "--seeds", "1", "--epochs", "1", "--limit", "300"]
    arguments += ["--rows", "itself", "afterwards", "50%", "int4", "permutation", "splitting"]
    arguments += ["--innocents", "2", "--keys", "20", "--json", str(tmp_path / "grid.json")]
    assert grid.main(arguments) == 0
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("| mnist-cnn")]
    assert len(lines) == 7
    cells = {line.split("|")[2].strip(): line.split("|") for line in lines}
    assert cells["embedded afterwards, no data"][5].strip() == "0.000"
    assert cells["embedded afterwards, no data"][7].strip() == "1 of 1"
    assert float(cells["permutation, scaling, dummies"][5]) > 0.35
    assert "0 false positives over 2 innocent models x 20 keys" in printed
    assert "p 0.33 by rank" in printed
    assert (tmp_path / "grid.json").stat().st_size > 1000


@pytest.mark.parametrize("name", ["mnist-cnn", "sms-attention"])
def test_scrambling_changes_every_kernel_and_no_answer(grid, name):
    family = importlib.import_module("watermark_families").FAMILIES[name]
    data = family.load(None)
    model = family.build()
    rng = np.random.default_rng(0)
    model.set_weights(
        [w + rng.normal(0, 0.1, w.shape).astype(w.dtype) for w in model.get_weights()]
    )
    other = family.scramble(model, 1)
    x = data.x_test[:64]
    before, after = model.predict(x, verbose=0), other.predict(x, verbose=0)
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-3)
    assert other.count_params() > model.count_params()
    for old, new in zip(model.get_weights(), other.get_weights(), strict=True):
        assert old.shape != new.shape or not np.array_equal(old, new) or old.shape in ((10,), (2,))


def test_pruning_and_rounding_do_what_their_names_say(grid):
    values = np.random.default_rng(0).normal(size=(64, 32)).astype("float32")
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
    model.set_weights([values, np.ones(32)])

    def kernel(changed):
        result, bias = changed.get_weights()
        assert np.array_equal(bias, np.ones(32))
        return result

    assert np.mean(kernel(grid.prune(model, 0.9)) == 0) == pytest.approx(0.9, abs=0.01)
    rounded = kernel(grid.quantize(model, 4))
    assert max(len(np.unique(column)) for column in rounded.T) <= 15
    assert np.abs(rounded - values).max() <= np.abs(values).max() / 7 / 2 * 1.01
    closer = kernel(grid.quantize(model, 8))
    assert np.abs(closer - values).max() < np.abs(rounded - values).max() / 8
    assert np.array_equal(kernel(model), values), "each treats a copy"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist-cnn", "sms-attention"])
def test_every_attack_runs(grid, name, capsys):
    arguments = ["--families", name, "--seeds", "1", "--epochs", "1", "--limit", "300"]
    assert grid.main([*arguments, "--innocents", "0"]) == 0
    assert capsys.readouterr().out.count(f"| {name} ") == len(grid.ROWS)
    keras.utils.clear_session()
