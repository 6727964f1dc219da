"""PrivacyAudit: silent on a private run, loud on one without its noise."""

import warnings

import numpy as np
import pytest
from harness_callbacks import run_callback_harness, small_model
from harness_leakage import DELTA, canary_audit, ordinary_data, private_run, remove_noise

from keras_secure.callbacks import PrivacyAudit
from keras_secure.errors import InputError, PrivacyWarning
from keras_secure.leakage import OneRunAudit, mislabelled_canaries


def audited(seed, **options):
    generator = np.random.default_rng(seed)
    audit = canary_audit(generator)
    callback = PrivacyAudit(audit, DELTA, **options)
    secure, before = private_run(audit, ordinary_data(generator), callbacks=[callback])
    return secure, audit, before, callback


def test_a_private_run_agrees_with_its_ledger(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrivacyWarning)
        secure, audit, before, callback = audited(0, verbose=1)
    spent = secure.optimizer.epsilon(DELTA)
    assert callback.report == audit.lower_bound(secure.model, DELTA, reference=before)
    assert callback.finding == callback.report.finding(spent)
    assert callback.finding.severity == "ok"
    assert callback.finding.evidence["epsilon"] == spent
    assert "ok: " in capsys.readouterr().out


def test_a_run_without_noise_is_called_out(monkeypatch):
    remove_noise(monkeypatch)
    with pytest.warns(PrivacyWarning, match="not as private as stated"):
        *_, callback = audited(0)
    assert callback.finding.severity == "critical"
    assert callback.finding.remedy


@pytest.fixture
def canaries(digits):
    x, y = digits
    return OneRunAudit(*mislabelled_canaries(x[24:64], y[24:64], 40, 10, seed=0), seed=0)


def test_behaves_like_a_keras_callback(digits, canaries, tmp_path):
    x, y = digits
    run_callback_harness(
        lambda: PrivacyAudit(canaries, DELTA), (x[:24], y[:24]), tmp_path, measures_only=True
    )


def test_a_model_that_promises_nothing_is_measured_and_not_accused(digits, canaries):
    x, y = digits
    model = small_model()
    callback = PrivacyAudit(canaries, DELTA, num_guesses=20)
    model.fit(*canaries.training_data(x[:24], y[:24]), epochs=60, verbose=0, callbacks=[callback])
    assert callback.finding.severity == "info"
    assert "no epsilon is promised" in callback.finding.statement
    assert callback.report.epsilon_lower > 0.5  # mislabelled digits, known by heart
    assert callback.report.num_guesses == 20
    first = callback.report
    # A second fit is compared with the beginning of the first.
    model.optimizer.learning_rate = 0.0
    model.fit(*canaries.training_data(x[:24], y[:24]), verbose=0, callbacks=[callback])
    assert callback.report == first


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"audit": None}, "NoneType.*OneRunAudit"),
        ({"target_delta": 0.0}, "target_delta is 0"),
        ({"confidence": 95}, "confidence"),
        ({"num_guesses": 41}, "num_guesses=41"),
    ],
)
def test_what_cannot_work_is_refused_before_training(canaries, changes, words):
    with pytest.raises(InputError, match=words):
        PrivacyAudit(**{"audit": canaries, "target_delta": DELTA, **changes})
