import dataclasses
import json
import math

import numpy as np
import pytest
from harness_audit import canary_bound, curve, full_report, leakage, shadow_leakage

from keras_secure.audit import AuditReport, judge
from keras_secure.audit.judge import (
    judge_accuracy,
    judge_integrity,
    judge_membership,
    judge_one_run,
    judge_privacy,
    judge_robustness,
    judge_serving,
    judge_watermark,
)
from keras_secure.audit.judge.robustness import reference_epsilon
from keras_secure.leakage import OperatingPoint, threshold_membership_attack


def by_id(findings):
    found = {finding.id: finding for finding in findings}
    assert len(found) == len(findings)
    return found


def test_nothing_measured_nothing_said():
    assert judge(AuditReport()) == []


def test_every_finding_is_a_sentence_with_evidence_and_a_remedy_where_needed():
    for finding in judge(full_report()):
        assert finding.statement.endswith("."), finding
        assert "nan" not in finding.statement
        json.dumps(finding.to_dict(), allow_nan=False)
        if finding.severity not in ("ok", "info"):
            assert finding.remedy.endswith("."), finding


@pytest.mark.parametrize(
    ("accuracy", "severity", "words"),
    [
        (0.95, "ok", "the same as"),
        (0.97, "ok", "2.0 points above"),
        (0.91, "ok", "4.0 points below"),
        (0.90, "low", "5.0 points below"),
        (0.80, "medium", "15.0 points below"),
    ],
)
def test_clean_accuracy(accuracy, severity, words):
    models = {"plain": {"accuracy": 0.95}, "robust": {"accuracy": accuracy}}
    (finding,) = judge_accuracy(models, "plain")
    assert (finding.id, finding.severity) == ("accuracy.robust", severity)
    assert words in finding.statement


def test_an_accuracy_that_is_not_a_number_never_passes():
    models = {"plain": {"accuracy": 0.95}, "robust": {"accuracy": math.nan}}
    (finding,) = judge_accuracy(models, "plain")
    assert finding.severity == "high"
    curves = {"plain": curve(0.98, 0.1), "robust": [{**curve(0.9)[0], "epsilon": 0.05}]}
    curves["robust"][0]["accuracy"] = math.nan
    found = by_id(judge_robustness({"curves": curves}, "plain"))
    assert found["robustness.robust"].severity == "high"
    assert "not a number" in found["robustness.robust"].statement


def test_no_baseline_no_comparison():
    assert judge_accuracy({"robust": {"accuracy": 0.5}}, "plain") == []


def test_models_are_compared_where_the_baseline_breaks_not_where_the_gap_is_widest():
    curves = {"plain": curve(0.98, 0.5, 0.29, 0.25), "robust": curve(0.97, 0.9, 0.5, 0.9)}
    assert reference_epsilon(curves, "plain") == 0.1
    assert reference_epsilon({"plain": curve(0.98, 0.9, 0.8, 0.7)}, "plain") == 0.2
    assert reference_epsilon({"plain": curve(0.2, 0.1)}, "plain") == 0.05
    assert reference_epsilon({}, "plain") is None


def test_robustness():
    section = {
        "norm": "linf",
        "curves": {
            "plain": curve(0.98, 0.6, 0.1),
            "robust": curve(0.97, 0.9, 0.8),
            "weak": curve(0.97, 0.7, 0.35),
            "private": curve(0.91, 0.5, 0.11),
        },
    }
    found = by_id(judge_robustness(section, "plain"))
    assert {key: found[key].severity for key in found} == {
        "robustness.plain": "high",
        "robustness.robust": "ok",
        "robustness.weak": "medium",
        "robustness.private": "high",
    }
    assert "falls from 98.0% to 10.0%" in found["robustness.plain"].statement
    assert "linf epsilon 0.1" in found["robustness.plain"].statement
    assert "70.0 points more" in found["robustness.robust"].statement
    assert "plain model has 10.0%" in found["robustness.weak"].statement
    assert "cannot be told apart" in found["robustness.private"].statement


def test_a_large_gain_on_few_examples_is_not_enough():
    section = {"curves": {"plain": curve(0.9, 0.2, trials=5), "robust": curve(0.9, 0.6, trials=5)}}
    found = by_id(judge_robustness(section, "plain"))
    assert found["robustness.robust"].severity == "medium"
    assert "cannot be told apart" in found["robustness.robust"].statement


def test_a_curve_that_rises_is_called_a_failed_attack():
    section = {"curves": {"plain": curve(0.98, 0.3, 0.7, 0.0)}}
    found = by_id(judge_robustness(section, "plain"))
    assert found["robustness.shape.plain"].severity == "high"
    assert "hide gradients" in found["robustness.shape.plain"].remedy
    # A rise within the intervals is noise.
    assert "robustness.shape.plain" not in by_id(
        judge_robustness({"curves": {"plain": curve(0.98, 0.30, 0.32, 0.0)}}, "plain")
    )


def privacy(**changes):
    return {"epsilon": 2.9, "target_epsilon": 3.0, "target_delta": 1e-4, **changes}


@pytest.mark.parametrize(
    ("changes", "severity", "words"),
    [
        ({}, "ok", "2.9 of 3 was spent at delta 0.0001"),
        ({"epsilon": 3.0}, "ok", "budget was kept"),
        ({"epsilon": 3.01}, "critical", "above the target 3"),
        ({"target_epsilon": None}, "info", "no target"),
        ({"epsilon": math.inf}, "critical", "not private"),
        ({"epsilon": math.nan}, "critical", "not private"),
        ({"reasons_not_private": ["the noise seed was fixed"]}, "critical", "seed was fixed"),
    ],
)
def test_privacy_budget(changes, severity, words):
    finding = by_id(judge_privacy(privacy(**changes)))["privacy.budget"]
    assert finding.severity == severity
    assert words in finding.statement


def test_privacy_reach():
    assert set(by_id(judge_privacy(privacy()))) == {"privacy.budget"}
    found = by_id(
        judge_privacy(
            privacy(epsilon=20.0, target_epsilon=20.0, num_train=1000, target_delta=1e-2)
            | {"exact_metrics": ["loss", "accuracy"]}
        )
    )
    assert found["privacy.strength"].severity == "medium"
    assert found["privacy.delta"].severity == "high"
    assert "loss and accuracy" in found["privacy.metrics"].statement
    assert "not private" in found["privacy.metrics"].statement


def test_an_attack_that_the_guarantee_forbids_is_a_contradiction():
    leaking = {"private": leakage(3.0)}
    found = by_id(judge_privacy(privacy(model="private", epsilon=0.1), leaking))
    assert found["privacy.contradiction"].severity == "critical"
    # The same leak is possible under a weak guarantee, or for another model.
    weak = privacy(model="private", epsilon=8.0, target_epsilon=8.0)
    assert "privacy.contradiction" not in by_id(judge_privacy(weak, leaking))
    other = privacy(model="other", epsilon=0.1)
    assert "privacy.contradiction" not in by_id(judge_privacy(other, leaking))
    # Every kind of attack can contradict it.
    shadows = {"private": shadow_leakage(3.0)}
    strict = privacy(model="private", epsilon=0.1)
    found = by_id(judge_privacy(strict, {"private": leakage(0.0)}, shadows))
    assert "lira offline" in found["privacy.contradiction"].statement


def spread_thin():
    """A leak that many examples show, and that exposes nobody in particular."""
    losses = np.random.default_rng(0).normal(size=(2, 9000))
    return threshold_membership_attack(losses[0], losses[1] + 0.1)


@pytest.mark.parametrize(
    ("measured", "severity", "words"),
    [
        (leakage(0.0), "ok", "cannot be told from a non-member"),
        (spread_thin(), "low", "leaks"),
        (leakage(0.5), "high", "leaks"),
        (leakage(-0.5), "info", "not alike"),
    ],
)
def test_membership(measured, severity, words):
    (finding,) = judge_membership({"plain": measured})
    assert (finding.id, finding.severity) == ("membership.plain", severity)
    assert words in finding.statement


def test_a_few_exposed_people_count_even_if_the_average_is_safe():
    point = OperatingPoint(0.01, 0.01, (0.001, 0.03), 0.08, (0.05, 0.12))
    measured = dataclasses.replace(leakage(0.0), tpr_at_fpr=(point,))
    (finding,) = judge_membership({"plain": measured})
    assert finding.severity == "medium"
    assert "8.0% of the members are found at 1.0% false alarms" in finding.statement


def test_a_rate_that_few_non_members_cannot_show_exposes_nobody():
    # 8% of the members, but what is known of the false alarms is that they are below 12%.
    point = OperatingPoint(0.001, 0.0, (0.0, 0.12), 0.08, (0.05, 0.12))
    measured = dataclasses.replace(leakage(0.0), tpr_at_fpr=(point,))
    assert judge_membership({"plain": measured})[0].severity == "ok"


def test_shadow_models_are_named_in_what_they_find():
    safe, leaking = judge_membership(
        {"private": shadow_leakage(0.0), "plain": shadow_leakage(0.5)}, "lira"
    )
    assert (safe.id, safe.severity) == ("lira.private", "ok")
    assert "By comparison with shadow models" in safe.statement
    assert (leaking.id, leaking.severity) == ("lira.plain", "high")


def test_one_run_is_held_against_the_ledger_of_its_own_model():
    bounds = {"private": canary_bound(1.0), "plain": canary_bound(1.0)}
    found = by_id(judge_one_run(bounds, privacy(model="private", epsilon=1.0)))
    assert found["one_run.private"].severity == "critical"
    assert found["one_run.plain"].severity == "info"
    kept = by_id(judge_one_run(bounds, privacy(model="private", epsilon=50.0)))
    assert kept["one_run.private"].severity == "ok"
    assert by_id(judge_one_run(bounds))["one_run.private"].severity == "info"
    stricter = {"private": canary_bound(1.0, delta=1e-6)}
    promise = privacy(model="private", epsilon=1.0)
    assert judge_one_run(stricter, promise)[0].severity == "info"


@pytest.mark.parametrize(("p_value", "severity"), [(1e-9, "ok"), (1e-3, "low"), (0.4, "high")])
def test_watermark(p_value, severity):
    (finding,) = judge_watermark({"bits": 64, "ber": 0.1, "p_value": p_value})
    assert finding.severity == severity
    assert "90.0% of 64" in finding.statement


@pytest.mark.parametrize(
    ("verified", "detected", "named", "severities"),
    [
        (True, True, "a.pb", ("ok", "ok")),
        (True, True, None, ("ok", "medium")),
        (True, True, "b.pb", ("ok", "medium")),
        (True, False, None, ("ok", "critical")),
        (False, True, "a.pb", ("critical", "ok")),
    ],
)
def test_integrity(verified, detected, named, severities):
    tamper = {"file": "a.pb", "detected": detected, "named": named}
    found = judge_integrity({"verified": verified, "files": ["a.pb"], "tamper": tamper})
    assert tuple(finding.severity for finding in found) == severities


def test_serving():
    found = by_id(judge_serving({"max_difference": 1e-6, "nan_handled": True}))
    assert {key: finding.severity for key, finding in found.items()} == {
        "serving.predictions": "ok",
        "serving.nan_handled": "ok",
    }
    bad = {"max_difference": math.nan, "out_of_range_handled": False, "guards": []}
    assert {key: finding.severity for key, finding in by_id(judge_serving(bad)).items()} == {
        "serving.predictions": "high",
        "serving.out_of_range_handled": "high",
        "serving.guards": "medium",
    }
