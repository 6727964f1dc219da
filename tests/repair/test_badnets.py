"""BadNets on MNIST, from detection to repair: what docs/detection.md says, on fewer seeds."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "backdoor_repair.py"


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
def test_a_backdoor_is_found_and_repaired(rate, real_data):
    spec = importlib.util.spec_from_file_location("backdoor_repair", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    data = example.load("mnist", real_data)
    fit = {"epochs": 1, "batch_size": 128, "verbose": 0}
    for seed in (40, 47):
        found = example.one_run(data, rate, seed, fit, cleanse=True)
        assert found["attack"] > 0.9
        assert found["auroc"] >= 0.99
        assert found["auroc_all"] >= 0.99
        assert found["clean_flagged"] <= 0.01
        assert found["cleanse_found"]
        assert max(found["retrained_attack"], found["unlearned_attack"]) < 0.05
        assert max(found["retrained_cost"], found["unlearned_cost"]) <= 0.01
