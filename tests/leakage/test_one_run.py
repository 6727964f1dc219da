"""The audit in one run: its coins, its guesses, and what it says of right and broken training."""

import json
import math

import keras
import numpy as np
import pytest
from harness_leakage import DELTA, canary_audit, ordinary_data, private_run, remove_noise

from keras_secure.errors import InputError
from keras_secure.leakage import OneRunAudit

X, Y = np.zeros((10, 3), "float32"), np.arange(10)


def test_coins_are_fair_fresh_and_repeatable_by_seed():
    audits = [OneRunAudit(np.zeros((4000, 1)), np.zeros(4000, int)) for _ in range(2)]
    for audit in audits:
        assert abs(audit.included.sum() - 2000) < 6 * math.sqrt(1000)
    assert not np.array_equal(audits[0].included, audits[1].included)
    seeded = [OneRunAudit(X, Y, seed=3).included for _ in range(2)]
    np.testing.assert_array_equal(*seeded)


def test_training_data_holds_the_included_canaries_once_and_no_other():
    canaries = np.arange(40.0).reshape(20, 2)
    audit = OneRunAudit(canaries, np.arange(20) % 3, seed=0)
    x, y = audit.training_data(np.zeros((5, 2), "float32"), np.full(5, 7, "int32"))
    assert (x.dtype, y.dtype) == (np.dtype("float32"), np.dtype("int32"))
    np.testing.assert_array_equal(x[:5], 0)
    np.testing.assert_array_equal(x[5:], canaries[audit.included])
    np.testing.assert_array_equal(y, np.r_[np.full(5, 7), (np.arange(20) % 3)[audit.included]])


def test_nested_inputs_and_one_hot_labels_are_joined():
    labels = np.eye(4, dtype="float32")
    audit = OneRunAudit({"a": np.ones((4, 2)), "b": np.ones((4, 1))}, labels, seed=0)
    x, y = audit.training_data({"a": np.zeros((3, 2)), "b": np.zeros((3, 1))}, labels[:3])
    size = 3 + audit.included.sum()
    assert {name: array.shape for name, array in x.items()} == {"a": (size, 2), "b": (size, 1)}
    assert y.shape == (size, 4)


def test_surest_canaries_are_guessed_and_the_rest_left_open():
    audit = OneRunAudit(np.zeros((100, 1)), np.zeros(100, int), seed=0)
    scores = np.zeros(100)
    inside, outside = np.flatnonzero(audit.included), np.flatnonzero(~audit.included)
    scores[inside[:10]], scores[outside[:10]] = 1.0, -1.0
    report = audit.lower_bound(scores, DELTA, num_guesses=20)
    assert (report.num_guesses, report.num_correct) == (20, 20)
    assert report.epsilon_lower > 1.0
    backwards = audit.lower_bound(-scores, DELTA, num_guesses=20)
    assert (backwards.num_correct, backwards.epsilon_lower) == (0, 0.0)
    (odd,) = audit.lower_bound(scores, DELTA, num_guesses=[19]).tried
    assert (odd.num_guesses, odd.num_correct) == (19, 19)


def test_trying_several_numbers_is_paid_for():
    audit = OneRunAudit(np.zeros((100, 1)), np.zeros(100, int), seed=0)
    scores = audit.included + 0.0
    alone = audit.lower_bound(scores, 0.0, num_guesses=40)
    several = audit.lower_bound(scores, 0.0, num_guesses=[40, 10])
    assert several.num_guesses == alone.num_guesses == 40
    assert several.epsilon_lower < alone.epsilon_lower
    corrected = audit.lower_bound(scores, 0.0, num_guesses=40, confidence=0.975)
    assert several.epsilon_lower == pytest.approx(corrected.epsilon_lower, abs=1e-5)


def test_reference_takes_away_what_was_known_before():
    audit = OneRunAudit(np.zeros((200, 1)), np.zeros(200, int), seed=0)
    hard = np.random.default_rng(0).normal(0, 20, 200)
    scores = hard + audit.included
    assert audit.lower_bound(scores, DELTA).epsilon_lower < 0.5
    assert audit.lower_bound(scores, DELTA, reference=hard).epsilon_lower > 2.5
    infinite = np.where(audit.included, np.inf, -np.inf)
    assert audit.lower_bound(infinite, DELTA, reference=infinite).epsilon_lower == 0.0


def test_a_model_is_scored_by_the_labels_of_the_canaries():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model.set_weights([np.eye(3, dtype="float32"), np.zeros(3)])
    audit = OneRunAudit(np.eye(3, dtype="float32"), np.array([0, 1, 0]))
    scores = audit.scores(model)
    assert scores[0] == scores[1] > 0 > scores[2]


def test_finding_compares_the_bounds():
    audit = OneRunAudit(np.zeros((200, 1)), np.zeros(200, int), seed=0)
    report = audit.lower_bound(audit.included + 0.0, DELTA)
    json.dumps(report.to_dict(), allow_nan=False)
    assert report.finding(50.0).severity == "ok"
    assert report.finding(0.5).severity == "critical"
    assert "not as private as stated" in report.finding(0.5).statement
    assert report.finding(0.5, delta=1e-6).severity == "critical"  # stricter, so refuted as well
    assert report.finding(0.5, delta=1e-3).severity == "info"  # a looser promise is another one
    for nothing in (None, math.inf):
        assert report.finding(nothing).severity == "info"
    for epsilon in (None, 0.5, 50.0):
        json.dumps(report.finding(epsilon, name="private").to_dict(), allow_nan=False)
        assert report.finding(epsilon, name="private").id == "one_run.private"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: OneRunAudit(X, Y[:-1]), r"\[10\] examples and y_canaries 9"),
        (lambda: OneRunAudit(X[:1], Y[:1]), "2 or more"),
        (lambda: OneRunAudit(X, Y).training_data(np.zeros((2, 4)), Y[:2]), "same structure"),
        (lambda: OneRunAudit(X, Y).training_data({"a": X}, Y), "same structure"),
        (lambda: OneRunAudit(X, Y).training_data(X, np.eye(10)), "one-hot"),
        (lambda: OneRunAudit(X, Y).lower_bound(np.zeros(9), DELTA), "10 canaries"),
        (lambda: OneRunAudit(X, Y).lower_bound(np.full(10, np.nan), DELTA), "10 NaN"),
        (lambda: OneRunAudit(X, Y).lower_bound(Y, DELTA, num_guesses=11), "num_guesses=11"),
        (lambda: OneRunAudit(X, Y).lower_bound(Y, DELTA, num_guesses=[]), "num_guesses="),
        (lambda: OneRunAudit(X, Y).lower_bound(Y, 2.0), "delta=2.0"),
        (lambda: OneRunAudit(X, Y).lower_bound(Y, DELTA, confidence=95), "confidence"),
    ],
)
def test_refusals_say_what_to_do(call, words):
    with pytest.raises(InputError, match=words):
        call()


def audited(seed):
    """One run from nothing: the lower bound beside the ledger's upper bound."""
    generator = np.random.default_rng(seed)
    audit = canary_audit(generator)
    secure, before = private_run(audit, ordinary_data(generator))
    report = audit.lower_bound(secure.model, DELTA, reference=before)
    return report, secure.optimizer.epsilon(DELTA)


def never_exceeds(runs):
    for seed in range(runs):
        report, spent = audited(seed)
        assert 0.2 < spent < 1.0
        assert report.epsilon_lower <= spent
        assert report.finding(spent).severity == "ok"


def always_exposes(runs):
    for seed in range(runs):
        report, spent = audited(seed)
        assert spent < 1.0, "the ledger knows nothing of the defect"
        assert report.epsilon_lower > spent
        assert report.finding(spent).severity == "critical"


def test_private_runs_stay_below_their_ledger():
    never_exceeds(2)


def test_runs_without_noise_are_exposed(monkeypatch):
    remove_noise(monkeypatch)
    always_exposes(2)


@pytest.mark.slow
def test_fifty_private_runs_stay_below_their_ledger():
    never_exceeds(50)


@pytest.mark.slow
def test_fifty_runs_without_noise_are_exposed(monkeypatch):
    remove_noise(monkeypatch)
    always_exposes(50)
