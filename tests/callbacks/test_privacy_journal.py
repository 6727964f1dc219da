"""PrivacyJournal: what was recorded counts, whatever is restored; anything else is refused."""

import shutil

import keras
import numpy as np
import pytest
from keras import layers

import keras_secure as ks
from keras_secure.callbacks import PrivacyBudget, PrivacyJournal, PrivateCheckpoint
from keras_secure.errors import BudgetExhaustedError, PrivacyError, PrivacyWarning
from keras_secure.privacy import Journal, LedgerKey

X = np.random.default_rng(0).normal(size=(48, 4)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")
DELTA = 1e-3


class CrashError(Exception):
    """Stands for the end of the process."""


class Crash(keras.callbacks.Callback):
    """Ends a fit after or before a step; the optimizer is then thrown away."""

    def __init__(self, step, before=False):
        super().__init__()
        self.step, self.before = step, before

    def on_train_batch_begin(self, batch, logs=None):
        if self.before and self.model.optimizer.executed_steps == self.step:
            raise CrashError

    def on_train_batch_end(self, batch, logs=None):
        if not self.before and self.model.optimizer.executed_steps >= self.step:
            raise CrashError


def private(noise=3.0, **compiling):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    secure = ks.SecureModel(model)
    optimizer = ks.optimizers.DPSGD(0.1, l2_norm_clip=1.0, noise_multiplier=noise)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    secure.compile(optimizer, loss=loss, **compiling)
    return secure


def built():
    secure = private()
    secure(X[:1])
    secure.optimizer.build(secure.model.trainable_variables)
    return secure


def fit(secure, *callbacks, **options):
    options = {"batch_size": 8, "verbose": 0, **options}  # six steps an epoch
    secure.fit(X, Y, callbacks=list(callbacks), **options)
    return secure


def crash(step, *callbacks, before=False, secure=None, **options):
    secure = secure or private()
    with pytest.raises(CrashError):
        fit(secure, *callbacks, Crash(step, before), **{"epochs": 3, **options})
    return secure


def steps(path, **options):
    journal = Journal(path, **options)
    journal.close()
    return journal.total_steps


def test_an_orderly_fit_leaves_the_exact_count(tmp_path):
    secure = fit(private(), PrivacyJournal(tmp_path / "journal", reserve=4), epochs=1)
    assert steps(tmp_path / "journal") == secure.optimizer.executed_steps == 6
    assert not secure.optimizer.ledger.is_open
    secure.save_weights(tmp_path / "state.weights.h5")
    fresh = fit(private())
    with pytest.raises(ValueError, match="of another run"):
        fresh.load_weights(tmp_path / "state.weights.h5")
    # What was saved afterwards stands by itself, and the journal goes on with it as well.
    for callbacks in ([], [PrivacyJournal(tmp_path / "journal")]):
        resumed = built()
        resumed.load_weights(tmp_path / "state.weights.h5")
        fit(resumed, *callbacks)
        assert resumed.optimizer.executed_steps == 12
    assert steps(tmp_path / "journal") == 12


@pytest.mark.parametrize("before", [True, False])
def test_steps_lost_in_a_crash_count_exactly(tmp_path, before):
    callbacks = [PrivacyJournal(tmp_path / "journal"), PrivateCheckpoint(tmp_path / "saved", 3)]
    crash(8, *callbacks, before=before)
    # Before the ninth step was executed it had been recorded: it might have been.
    spent = 9 if before else 8
    assert steps(tmp_path / "journal") == spent
    journal = PrivacyJournal(tmp_path / "journal")
    resumed = private()
    with pytest.warns(PrivacyWarning, match=f"{spent - 6} private steps beyond"):
        fit(resumed, PrivateCheckpoint(tmp_path / "saved", 3), journal, epochs=2)
    assert journal.lost_steps == spent - 6
    # The epoch that was interrupted is made again.
    assert resumed.optimizer.executed_steps == spent + 6
    phases = resumed.optimizer.ledger.phases(spent + 6)
    assert ks.privacy.epsilon(phases, DELTA) == pytest.approx(
        ks.privacy.epsilon(phases[0].with_steps(spent + 6), DELTA), rel=1e-4
    )
    assert steps(tmp_path / "journal") == spent + 6


@pytest.mark.parametrize("order", [1, -1])
def test_works_with_keras_own_backup_in_any_order(tmp_path, order):
    def callbacks():
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        return [PrivacyJournal(tmp_path / "journal", reserve=5), backup][::order]

    crash(8, *callbacks())
    resumed = private()
    with pytest.warns(PrivacyWarning, match="beyond what was restored"):
        fit(resumed, *callbacks(), epochs=2)
    # Reserved to 10 of which 8 were executed: at most `reserve` too many, never too few.
    assert resumed.optimizer.executed_steps == 10 + 6


def test_a_crash_before_the_first_checkpoint_counts(tmp_path):
    crash(2, PrivacyJournal(tmp_path / "journal"))
    resumed = private()
    with pytest.warns(PrivacyWarning, match="2 private steps beyond"):
        fit(resumed, PrivacyJournal(tmp_path / "journal"))
    assert resumed.optimizer.executed_steps == 8


@pytest.mark.filterwarnings("ignore::keras_secure.errors.PrivacyWarning")
def test_several_crashes_add_up(tmp_path):
    for count in range(1, 5):
        crash(2 * count, PrivacyJournal(tmp_path / "journal"))
        assert steps(tmp_path / "journal") == 2 * count


def test_several_steps_per_execution(tmp_path):
    secure = private(steps_per_execution=4)
    crash(4, PrivacyJournal(tmp_path / "journal"), secure=secure)
    assert secure.optimizer.executed_steps == steps(tmp_path / "journal") == 4
    secure = private(steps_per_execution=4)
    with pytest.warns(PrivacyWarning):
        fit(secure, PrivacyJournal(tmp_path / "journal"), epochs=2)
    # Six steps an epoch: executions of four and of two.
    assert secure.optimizer.executed_steps == steps(tmp_path / "journal") == 4 + 12


def test_a_change_of_plan_is_recorded(tmp_path):
    secure = private()
    journal = PrivacyJournal(tmp_path / "journal", reserve=10)
    fit(secure, journal)
    crash(14, journal, secure=secure, batch_size=16)
    recorded = Journal(tmp_path / "journal").phases
    assert [phase.steps for phase in recorded] == [6, 10]
    assert [phase.expected_batch_size for phase in recorded] == [8.0, 16.0]
    # The same optimizer goes on after the crash.
    with pytest.warns(PrivacyWarning, match="2 private steps beyond"):
        fit(secure, journal)
    assert secure.optimizer.executed_steps == 16 + 6


def test_lost_steps_count_against_the_budget(tmp_path):
    target = ks.privacy.epsilon(
        crash(4, PrivacyJournal(tmp_path / "journal")).optimizer.ledger.phases(4), DELTA
    )
    with pytest.raises(BudgetExhaustedError):
        fit(private(), PrivacyBudget(target, DELTA), PrivacyJournal(tmp_path / "journal"))
    resumed = private()
    with pytest.warns(PrivacyWarning):
        fit(
            resumed,
            PrivacyJournal(tmp_path / "journal", reserve=100),
            PrivacyBudget(target * 1.4, DELTA),
            epochs=20,
        )
    assert 4 < resumed.optimizer.executed_steps < 24
    assert resumed.optimizer.epsilon(DELTA) <= target * 1.4
    # Nothing beyond the budget was reserved either.
    assert steps(tmp_path / "journal") == resumed.optimizer.executed_steps


def saved_by_crash(tmp_path, **options):
    """A crash at step 8 with checkpoints at 3 and 6."""
    journal = PrivacyJournal(tmp_path / "journal", **options)
    crash(8, journal, PrivateCheckpoint(tmp_path / "saved", 3))
    return PrivateCheckpoint(tmp_path / "saved", 3)


def test_a_checkpoint_is_not_resumed_without_its_journal(tmp_path):
    checkpoint = saved_by_crash(tmp_path)
    with pytest.raises(ValueError, match="callback PrivacyJournal"):
        fit(private(), checkpoint)
    with pytest.raises(PrivacyError, match="is empty"):
        fit(private(), checkpoint, PrivacyJournal(tmp_path / "another"))
    assert len(checkpoint.checkpoints()) == 2  # a fit that was refused takes nothing with it
    loaded = built()
    loaded.load_weights(checkpoint.checkpoints()[0] / "state.weights.h5")
    with pytest.raises(PrivacyError, match="callback PrivacyJournal"):
        fit(loaded)
    with pytest.raises(PrivacyError, match="callback PrivacyJournal"):
        loaded.train_on_batch(X, Y)
    with pytest.warns(PrivacyWarning):
        fit(loaded, PrivacyJournal(tmp_path / "journal"))
    assert loaded.optimizer.executed_steps == 8 + 6


def test_a_journal_of_an_earlier_fit_is_not_expected_in_the_next(tmp_path):
    checkpoint = saved_by_crash(tmp_path)
    secure = crash(2, PrivacyJournal(tmp_path / "another"))
    assert secure.optimizer.expects_journal
    with pytest.raises(ValueError, match=r"of another run|callback PrivacyJournal"):
        fit(secure, checkpoint)
    assert not secure.optimizer.expects_journal


def test_journals_that_do_not_fit_are_refused(tmp_path):
    checkpoint = saved_by_crash(tmp_path)
    crash(9, PrivacyJournal(tmp_path / "another"))
    with pytest.raises(PrivacyError, match="of another run"):
        fit(private(), checkpoint, PrivacyJournal(tmp_path / "another"))
    lines = (tmp_path / "journal").read_bytes().splitlines(keepends=True)
    (tmp_path / "older").write_bytes(b"".join(lines[:4]))
    with pytest.raises(PrivacyError, match=r"records 3 private steps, but 6.*older copy"):
        fit(private(), checkpoint, PrivacyJournal(tmp_path / "older"))
    secure = fit(private(), PrivacyJournal(tmp_path / "third"))
    fit(secure)
    with pytest.raises(PrivacyError, match="or steps were taken without it"):
        fit(secure, PrivacyJournal(tmp_path / "third"))
    (tmp_path / "older").write_bytes(lines[0] + lines[2])
    with pytest.raises(PrivacyError, match="line 2"):
        fit(private(), PrivacyJournal(tmp_path / "older"))


def test_a_key_seals_journal_and_checkpoints(tmp_path):
    key = LedgerKey.generate(tmp_path / "ledger.key")
    checkpoint = saved_by_crash(tmp_path, key=tmp_path / "ledger.key")
    with pytest.warns(PrivacyWarning):
        fit(private(), checkpoint, PrivacyJournal(tmp_path / "journal", key=key), epochs=2)
    assert steps(tmp_path / "journal", key=key) == 8 + 6
    with pytest.raises(PrivacyError, match="the key"):
        fit(private(), PrivacyJournal(tmp_path / "journal"))


def test_a_checkpoint_without_the_seal_is_refused(tmp_path):
    checkpoint = saved_by_crash(tmp_path)
    (tmp_path / "journal").unlink()
    key = LedgerKey.generate(tmp_path / "ledger.key")
    with pytest.raises(ValueError, match="not sealed by the given key"):
        fit(private(), checkpoint, PrivacyJournal(tmp_path / "journal", key=key))
    loaded = built()
    loaded.load_weights(checkpoint.checkpoints()[0] / "state.weights.h5")
    with pytest.raises(PrivacyError, match="not sealed by the given key"):
        loaded.optimizer.seal_ledger(key)


def test_refusals(tmp_path):
    for reserve in (0, -1, 1.5):
        with pytest.raises(PrivacyError, match="whole number of at least 1"):
            PrivacyJournal(tmp_path / "journal", reserve=reserve)
    plain = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    plain.compile("sgd", loss="mse")
    with pytest.raises(PrivacyError, match=r"found a SGD.*SecureModel with"):
        plain.fit(X, X[:, :2], verbose=0, callbacks=[PrivacyJournal(tmp_path / "journal")])


def test_damaged_checkpoints(tmp_path):
    checkpoint = saved_by_crash(tmp_path)
    newest, older = checkpoint.checkpoints()
    shutil.copytree(tmp_path / "saved", tmp_path / "copy")
    (newest / "state.weights.h5").write_bytes((newest / "state.weights.h5").read_bytes()[:-1])
    with pytest.warns(PrivacyWarning, match=r"is damaged.*step-000000000003 is used instead"):
        resumed = fit(private(), checkpoint, PrivacyJournal(tmp_path / "journal"), epochs=1)
    assert resumed.optimizer.executed_steps == 8 + 6
    # Without a journal an older state would forget what came after it.
    checkpoint = PrivateCheckpoint(tmp_path / "copy")
    newest, older = checkpoint.checkpoints()
    (newest / "progress.json").write_text("{}")
    with pytest.raises(PrivacyError, match="lacks the privacy spent since"):
        fit(private(), checkpoint)
    (older / "manifest.json").unlink()
    with pytest.raises(PrivacyError, match="there is no intact one"):
        fit(private(), checkpoint)
