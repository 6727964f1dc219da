"""PrivacyBudget: what it logs, where it stops, and that a resumed run knows what was spent."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_secure as ks
from keras_secure.callbacks.privacy_budget import PrivacyBudget
from keras_secure.errors import BudgetExhaustedError, PrivacyError

X = np.random.default_rng(0).normal(size=(48, 4)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")
DELTA = 1e-3


def private(noise=3.0):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    secure = ks.SecureModel(model)
    optimizer = ks.optimizers.DPSGD(0.1, l2_norm_clip=1.0, noise_multiplier=noise)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    secure.compile(optimizer, loss=loss, metrics=["accuracy"])
    return secure


def fit(secure, *callbacks, **options):
    options = {"batch_size": 8, "verbose": 0, **options}
    return secure.fit(X, Y, callbacks=list(callbacks), **options).history


class Interrupt(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def test_logs_reach_history_and_csv(tmp_path):
    secure = private()
    budget = PrivacyBudget(3.0, DELTA)
    history = fit(secure, budget, keras.callbacks.CSVLogger(tmp_path / "log.csv"), epochs=3)
    assert len(history["epsilon"]) == 3
    assert all(type(value) is float for value in history["epsilon"])
    assert history["epsilon"] == sorted(set(history["epsilon"]))
    assert history["epsilon"][-1] == secure.optimizer.epsilon(DELTA)
    assert "epsilon" in (tmp_path / "log.csv").read_text().splitlines()[0]
    assert [point["step"] for point in budget.burn_down] == [0, 6, 12, 18]
    assert budget.burn_down[0]["epsilon"] == 0.0


def test_stops_at_the_last_step_that_fits(capsys):
    secure = private()
    budget = PrivacyBudget(0.6, DELTA, verbose=1)
    history = fit(secure, budget, epochs=100)
    steps, optimizer = secure.optimizer.executed_steps, secure.optimizer
    assert len(history["epsilon"]) < 100
    assert history["epsilon"][-1] == optimizer.epsilon(DELTA) <= 0.6
    (phase,) = optimizer.ledger.phases(steps)
    more = ks.privacy.Phase(**{**phase.__dict__, "steps": steps + 1})
    assert ks.privacy.epsilon(more, DELTA) > 0.6
    assert f"ended after {steps} private steps" in capsys.readouterr().out
    with pytest.raises(BudgetExhaustedError, match=r"raise the budget"):
        fit(secure, budget)


def test_resume_from_backup_spends_exactly_what_one_run_spends(tmp_path):
    whole = private()
    fit(whole, epochs=3)
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fit(private(), backup, Interrupt(), epochs=3)
    resumed = private()
    fit(resumed, keras.callbacks.BackupAndRestore(tmp_path), epochs=3)
    assert resumed.optimizer.executed_steps == 18
    assert [phase.steps for phase in resumed.optimizer.ledger.phases(18)] == [12, 6]
    assert resumed.optimizer.epsilon(DELTA) == pytest.approx(
        whole.optimizer.epsilon(DELTA), rel=1e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, -1])
def test_budget_holds_over_a_resume_in_either_order(tmp_path, order):
    interrupted = private(noise=2.0)
    with pytest.raises(KeyboardInterrupt):
        fit(interrupted, keras.callbacks.BackupAndRestore(tmp_path), Interrupt(), epochs=3)
    target = interrupted.optimizer.epsilon(DELTA) * 1.2
    resumed = private(noise=2.5)  # another plan than the steps that were restored
    callbacks = [PrivacyBudget(target, DELTA), keras.callbacks.BackupAndRestore(tmp_path)]
    fit(resumed, *callbacks[::order], epochs=60)
    assert resumed.optimizer.executed_steps > 6
    assert resumed.optimizer.epsilon(DELTA) <= target


def test_model_checkpoints_carry_the_ledger(tmp_path):
    secure = private()
    path = tmp_path / "model.keras"
    fit(secure, keras.callbacks.ModelCheckpoint(path), epochs=2)
    loaded = keras.models.load_model(path)
    assert loaded.optimizer.epsilon(DELTA) == secure.optimizer.epsilon(DELTA) > 0
    with pytest.raises(BudgetExhaustedError):
        fit(loaded, PrivacyBudget(secure.optimizer.epsilon(DELTA) * 1.001, DELTA))
    loaded.optimizer.lift_limit()
    fit(loaded)
    assert loaded.optimizer.epsilon(DELTA) > secure.optimizer.epsilon(DELTA)


def test_refusals():
    for target in (0.0, -1.0, float("nan")):
        with pytest.raises(PrivacyError, match="must be positive"):
            PrivacyBudget(target, DELTA)
    for delta in (0.0, 1.0):
        with pytest.raises(PrivacyError, match=r"must lie in \(0, 1\)"):
            PrivacyBudget(1.0, delta)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    model.compile("sgd", loss="mse")
    with pytest.raises(PrivacyError, match=r"found a SGD.*SecureModel with"):
        model.fit(X, X[:, :2], verbose=0, callbacks=[PrivacyBudget(1.0, DELTA)])
    with pytest.raises(BudgetExhaustedError, match=r"Epsilon 0 of 0.01 is spent"):
        fit(private(noise=1.5), PrivacyBudget(0.01, DELTA))
