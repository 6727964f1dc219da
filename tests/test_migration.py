"""The page on moving from tensorflow-privacy: its code runs, and the names on both sides exist."""

import re
from pathlib import Path

import pytest

import keras_secure

PAGE = Path(__file__).parents[1] / "docs" / "migration.md"
TEXT = PAGE.read_text(encoding="utf-8")

# What `import tensorflow_privacy` 0.9.0 offers under TensorFlow 2.
THEIRS = [
    "compute_dp_sgd_privacy",
    "compute_dp_sgd_privacy_statement",
    "compute_rdp_tree_restart",
    "compute_rdp_single_tree",
    "compute_zcdp_single_tree",
    "DPQuery",
    "SumAggregationDPQuery",
    "DiscreteGaussianSumQuery",
    "DistributedDiscreteGaussianSumQuery",
    "DistributedSkellamSumQuery",
    "GaussianSumQuery",
    "NestedQuery",
    "NoPrivacyAverageQuery",
    "NoPrivacySumQuery",
    "NormalizedQuery",
    "QuantileEstimatorQuery",
    "NoPrivacyQuantileEstimatorQuery",
    "QuantileAdaptiveClipSumQuery",
    "QAdaClipTreeResSumQuery",
    "restart_query",
    "tree_aggregation",
    "RestartQuery",
    "TreeCumulativeSumQuery",
    "TreeResidualSumQuery",
    "TreeRangeSumQuery",
    "DNNClassifier",
    "DPModel",
    "DPSequential",
    "make_dp_model_class",
    "GenericDPAdagradOptimizer",
    "GenericDPAdamOptimizer",
    "GenericDPSGDOptimizer",
    "DPKerasAdagradOptimizer",
    "DPFTRLTreeAggregationOptimizer",
    "DPKerasAdamOptimizer",
    "DPKerasSGDOptimizer",
    "make_gaussian_query_optimizer_class",
    "make_keras_generic_optimizer_class",
    "make_keras_optimizer_class",
    "VectorizedDPKerasAdagradOptimizer",
    "VectorizedDPKerasAdamOptimizer",
    "VectorizedDPKerasSGDOptimizer",
    "make_vectorized_keras_optimizer_class",
    "linearly_separable_labeled_examples",
    "synthetic_linearly_separable_data",
    "logistic_objective_perturbation",
    "logistic_dpsgd",
    "single_layer_softmax_classifier",
]


@pytest.mark.usefixtures("coarse_grid")  # no figure of theirs is printed on the page
def test_the_code_runs_as_printed(capsys):
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) >= 6
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert "differentially" in printed  # the statement
    assert "'norm' is a GroupNormalization" in printed
    assert "2.597 2.382" in printed
    assert 0 < names["ftrl"].epsilon(1e-4) < float("inf")
    assert 0.5 < names["sigma"] < 1.1
    assert names["optimizer"].executed_steps == 16
    assert not names["adagrad"].built


def test_every_name_of_ours_exists():
    named = set(re.findall(r"\bks\.([A-Za-z_]+(?:\.[A-Za-z_]+)?)", TEXT))
    assert len(named) > 20
    for dotted in named:
        found = keras_secure
        for part in dotted.split("."):
            found = getattr(found, part)


@pytest.mark.parametrize("name", THEIRS)
def test_every_name_of_theirs_has_its_row(name):
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and f"`{name}`" in line]
    assert rows, f"docs/migration.md says nothing on {name}"
    for row in rows:
        left, right = row.strip("| ").split(" | ", 1)
        assert f"`{name}`" in left or f"`{name}`" in right
        assert right.strip()
