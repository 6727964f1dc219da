"""Recording steps on the disk before they are executed, so that no crash loses count of them."""

import warnings
from typing import Any

import keras

from keras_secure.errors import PrivacyError, PrivacyWarning
from keras_secure.privacy import Journal, LedgerKey


class PrivacyJournal(keras.callbacks.Callback):
    """Keeps a journal of private steps that survives `kill -9` with nothing undercounted.

    A checkpoint knows the steps until it was saved. Those after it may have been seen by somebody
    (in logs, metrics, a copied file) although a crash throws their weights away. The journal
    records, and writes through to the disk, how many steps may be executed before they are; a fit
    that resumes counts all of them, whichever checkpoint it starts from, or refuses and says why.

    With `reserve=1` the count after a crash is exact: each execution of the compiled step (of
    `steps_per_execution` steps) is recorded on its own, so that the one in flight counts and none
    after it. A larger `reserve` writes less often and counts up to as many steps too many after a
    crash, never too few. After an orderly end it is exact in any case.

    Checkpoints saved meanwhile say that they need their journal: resuming without it is refused.
    Works with `PrivateCheckpoint`, `keras.callbacks.BackupAndRestore` and `ModelCheckpoint`, in any
    order.

    Args:
        path: The journal's file, one for each run; created if there is none. Keep it as long as
            any checkpoint of the run.
        reserve: How many steps to record at once.
        key: A `privacy.LedgerKey`, or the path of its file, that seals the journal and the ledger
            in checkpoints; None for digests that catch accidents, not forgery.

    Attributes:
        lost_steps: Int: how many steps the last fit found beyond its checkpoint, and counted.

    Raises:
        PrivacyError: if the model is not compiled with a `DPOptimizer`, or the journal is damaged,
            in use, older than the checkpoint or of another run.
        BudgetExhaustedError: if the steps that were counted leave nothing of a `PrivacyBudget`.

    Example:

    >>> import tempfile
    >>> import keras_secure as ks
    >>> secure = ks.SecureModel(keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]))
    >>> optimizer = ks.optimizers.DPSGD(l2_norm_clip=1.0, noise_multiplier=2.0)
    >>> secure.compile(optimizer, loss="mse")
    >>> folder = tempfile.TemporaryDirectory()
    >>> journal = PrivacyJournal(f"{folder.name}/journal")
    >>> x, y = keras.random.normal((64, 4)), keras.random.normal((64, 1))
    >>> history = secure.fit(x, y, batch_size=16, verbose=0, callbacks=[journal])
    >>> ks.privacy.Journal(f"{folder.name}/journal").total_steps
    4
    """

    def __init__(self, path, reserve=1, key=None):
        super().__init__()
        if reserve != int(reserve) or reserve < 1:
            raise PrivacyError(f"reserve is {reserve}; it must be a whole number of at least 1.")
        self.path, self.reserve = path, int(reserve)
        self.key = None if key is None else LedgerKey.load(key)
        self.lost_steps = 0
        self._journal: Any = None
        self._plan: Any = None
        self._planned = 0

    def set_model(self, model):
        """Announces the journal to the optimizer, before any callback loads a checkpoint."""
        super().set_model(model)
        optimizer: Any = getattr(model, "optimizer", None)
        if not hasattr(optimizer, "reconcile"):
            raise PrivacyError(
                f"PrivacyJournal found a {type(optimizer).__name__}, which takes no private steps. "
                "Compile a SecureModel with keras_secure.optimizers.DPOptimizer."
            )
        if self.key is not None:
            optimizer.seal_ledger(self.key)
        optimizer.expect_journal()

    def on_train_begin(self, logs=None):
        """Opens the journal, and refuses one that is damaged or in use."""
        self.lost_steps = 0
        self._plan = None
        self._journal = Journal(self.path, self.key)

    def on_epoch_begin(self, epoch, logs=None):
        """Reconciles ledger and journal, once every callback has loaded what it loads."""
        if self._plan is None:
            self._reconcile()

    def on_train_batch_begin(self, batch, logs=None):
        """Records the steps of the coming execution, unless they are recorded already."""
        optimizer = self.model.optimizer
        if optimizer.ledger.current != self._plan:
            self._begin(optimizer.executed_steps)
        count = self.model.steps_per_execution
        self._planned += count
        if self._planned <= self._journal.total_steps:
            return
        executed = optimizer.executed_steps
        self._planned = executed + count
        # Steps beyond the budget release nothing, so they are not recorded.
        until = min(executed + max(count, self.reserve), optimizer.step_limit)
        if until > self._journal.total_steps or executed > self._journal.total_steps:
            self._journal.reserve(executed, max(until, executed))

    def on_train_end(self, logs=None):
        """Records the exact count; what is saved from here on stands by itself."""
        if self._plan is None:  # Everything was done before, so no epoch began.
            self._reconcile()
        optimizer = self.model.optimizer
        self._journal.settle(optimizer.executed_steps)
        self._journal.close()
        optimizer.close_ledger()

    def _reconcile(self):
        optimizer = self.model.optimizer
        self.lost_steps = optimizer.reconcile(self._journal)
        if self.lost_steps:
            warnings.warn(
                f"The journal {self._journal.path} records {self.lost_steps} private steps beyond "
                "what was restored. They may have been executed, so they are counted as spent.",
                PrivacyWarning,
                stacklevel=2,
            )
        self._begin(optimizer.executed_steps)

    def _begin(self, executed):
        self._journal.settle(executed)
        self._journal.begin(self.model.optimizer.ledger, executed)
        self._plan, self._planned = self.model.optimizer.ledger.current, executed
