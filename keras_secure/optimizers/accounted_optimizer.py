"""An optimizer that knows what it has spent: step counter, ledger, budget, and their checkpoint."""

import numpy as np
from keras import ops

from keras_secure import backend
from keras_secure.errors import BudgetExhaustedError, PrivacyError
from keras_secure.optimizers.privacy_reports import PrivacyReports
from keras_secure.optimizers.wrapper import OptimizerWrapper
from keras_secure.privacy import Ledger, accounting
from keras_secure.privacy.ledger import begins_with
from keras_secure.privacy.ledger_key import LedgerKey

_NO_LIMIT = 2**62


class AccountedOptimizer(PrivacyReports, OptimizerWrapper):
    """Base of `DPOptimizer`: counts private steps, keeps the ledger and enforces the budget.

    Args:
        name: Optional name.
    """

    def __init__(self, *, name=None):
        super().__init__(learning_rate=0.0, name=name)
        self._step_limit = HiddenVariable(_NO_LIMIT, "int64")
        # Releases of this process. No restored or reset variable can lower it, so neither a step
        # nor its noise ever repeats.
        self._released = HiddenVariable(0, "int64")
        self._budget = None
        self._key = None
        # Whether a journal records the steps of this process before they are executed.
        self._is_journaled = False
        # Whether a checkpoint was loaded that a journal runs ahead of, and which alone is behind.
        self._awaits_journal = False
        self._loaded_text = None
        self.ledger = Ledger()
        self.private_steps = self.add_variable(
            shape=(),
            dtype="int64",
            initializer="zeros",
            aggregation="only_first_replica",
            name="private_steps",
        )

    def next_step(self):
        """Returns the number of the step about to be taken and whether the budget allows it."""
        step = ops.maximum(ops.convert_to_tensor(self.private_steps), self._released.value)
        return step, step < self._step_limit.value

    def count_step(self, step, allowed):
        """Counts the step, inside the compiled step itself, if it was allowed."""
        self.private_steps.assign(step + ops.cast(allowed, "int64"))
        self._released.value.assign(step + ops.cast(allowed, "int64"))

    def open_phase(self, phase):
        """Enters in the ledger how the coming steps are made, and holds them to the budget."""
        self.ledger.begin(phase, self.executed_steps)
        if self._budget is not None:
            self._limit_steps(*self._budget)

    def close_phase(self):
        """Ends the phase: steps that follow it would be of unknown sampling, and are refused."""
        self.ledger.begin(None, self.executed_steps)

    @property
    def executed_steps(self):
        """Int: private steps executed so far, over all phases."""
        counters = (self.private_steps, self._released.value)
        return max(int(ops.convert_to_numpy(counter)) for counter in counters)

    @property
    def is_exhausted(self):
        """Whether a limit set by `limit_to` leaves no further step."""
        # Asked before every step by hand, so free of reading variables where there is no limit.
        return self._budget is not None and self.executed_steps >= self.step_limit

    def limit_to(self, target_epsilon, target_delta):
        """Forbids steps beyond a budget, inside the compiled step itself.

        The limit stays until another is set or `lift_limit` is called, and follows a checkpoint
        that is loaded.

        Returns:
            int: how many more steps of the current phase the budget holds; None between phases,
            where the next to open sets the limit.

        Raises:
            BudgetExhaustedError: if it holds none.
        """
        self._budget = (target_epsilon, target_delta)
        steps = self._limit_steps(target_epsilon, target_delta)
        if steps == 0:
            spent = self.epsilon(target_delta)
            raise BudgetExhaustedError(
                f"Epsilon {spent:.4g} of {target_epsilon:.4g} is spent at delta "
                f"{target_delta:.3g}, and one more step would cross the budget. Stop here, raise "
                "the budget, or start over with more noise."
            )
        return steps

    def _limit_steps(self, target_epsilon, target_delta):
        if self.ledger.current is None:
            return None
        # The compiled step counts steps, but how many a budget holds depends on the phase, so every
        # phase that opens asks again.
        phases = self.ledger.phases(self.executed_steps)
        steps = accounting.max_steps(phases, self.ledger.current, target_epsilon, target_delta)
        self._step_limit.value.assign(self.executed_steps + steps)
        return steps

    def lift_limit(self):
        """Withdraws the limit set by `limit_to`."""
        self._budget = None
        self._step_limit.value.assign(_NO_LIMIT)

    def inherit_ledger(self, other):
        """Takes over what another DP optimizer spent on the same model, and its budget."""
        if other is self:
            return
        if self.executed_steps:
            raise PrivacyError(
                "Both optimizers have executed private steps, so their ledgers cannot be joined. "
                "Compile with a fresh DPOptimizer."
            )
        ledger = other.ledger
        self.ledger = Ledger(ledger.phases(other.executed_steps), ledger.run_id, ledger.is_open)
        self.private_steps.assign(other.executed_steps)
        self._budget = other._budget
        self._key, self._loaded_text = other._key, other._loaded_text
        self._awaits_journal = other._awaits_journal

    @property
    def step_limit(self):
        """Int: how many private steps there may be in all; very large without a budget."""
        return int(ops.convert_to_numpy(self._step_limit.value))

    @property
    def awaits_journal(self):
        """Whether what was loaded may be behind a journal that was not read yet."""
        return self._awaits_journal

    @property
    def expects_journal(self):
        """Whether a `PrivacyJournal` records the coming steps."""
        return self._is_journaled

    def expect_journal(self, expected=True):
        """Announces whether a `PrivacyJournal` records the coming steps."""
        self._is_journaled = expected

    def seal_ledger(self, key):
        """Seals the ledger in every checkpoint from now on, and asks for the seal when loading.

        Args:
            key: A `privacy.LedgerKey`, or the path of its file. It is never saved.

        Raises:
            PrivacyError: if a ledger was loaded before that this key did not seal.
        """
        key = LedgerKey.load(key)
        if self._loaded_text is not None:
            Ledger.from_json(self._loaded_text, key)
        self._key = key

    def reconcile(self, journal):
        """Counts what a journal records beyond this ledger as spent; called by `PrivacyJournal`.

        Those steps may have been executed before their process ended, although their weights are
        lost. They enter the ledger and the step counter, so that noise and budget follow.

        Args:
            journal: A `privacy.Journal`.

        Returns:
            Int: how many steps the journal is ahead.

        Raises:
            PrivacyError: if ledger and journal do not fit each other.
            BudgetExhaustedError: if the steps that were added leave nothing of the budget.
        """
        executed = self.executed_steps
        if journal.run_id is None and self._awaits_journal:
            raise PrivacyError(
                f"The checkpoint was saved while a journal recorded the steps after it, but "
                f"{journal.path} is empty, so it is unknown what those steps spent. Give the "
                "journal of that run."
            )
        if journal.run_id is not None:
            self._check_journal(journal, executed)
            current = self.ledger.current
            self.ledger = Ledger(journal.phases, journal.run_id)
            self.ledger.current = current
            self.private_steps.assign(journal.total_steps)
            self._awaits_journal = False
            if self._budget is not None and current is not None:
                self.limit_to(*self._budget)
        self.ledger.is_open = True
        return self.executed_steps - executed

    def close_ledger(self):
        """Marks the ledger as complete by itself; called when a journal's fit ends in order."""
        self.ledger.is_open = self._is_journaled = False

    def save_own_variables(self, store):
        """Saves the variables and the ledger; never the noise key."""
        super().save_own_variables(store)
        text = self.ledger.to_json(self.executed_steps, self._key)
        store["ledger"] = np.frombuffer(text.encode(), dtype=np.uint8)

    def load_own_variables(self, store):
        """Restores variables and ledger.

        Raises:
            PrivacyError: if the ledger is missing, unreadable, altered, or tells of fewer steps
                than this optimizer has executed, of another run, or of a run whose journal is not
                at hand.
        """
        stored = {key: np.asarray(store[key]) for key in store.keys()}  # noqa: SIM118 (h5py group)
        if "ledger" not in stored:
            raise PrivacyError(
                "The checkpoint holds no privacy ledger, so the privacy already spent is unknown. "
                "Load a checkpoint saved by this optimizer, or load the weights into the plain "
                "model and account for them yourself."
            )
        text = stored.pop("ledger").tobytes().decode(errors="replace")
        ledger = Ledger.from_json(text, self._key)
        recorded = ledger.recorded_steps
        self._check_continues(ledger)
        super().load_own_variables(stored)
        if not self.built:
            # Keras loads nothing into an optimizer that has seen no variables yet; what was spent
            # counts all the same.
            self.private_steps.assign(recorded)
        if self.executed_steps != recorded:
            raise PrivacyError(
                f"The checkpoint counts {self.executed_steps} private steps, but its ledger "
                f"records {recorded}. The file was altered; restore an intact checkpoint."
            )
        # A fit that restores its backup goes on under the plan it has just begun, and within the
        # budget it was given.
        ledger.current = self.ledger.current
        self.ledger = ledger
        self._loaded_text = text
        self._awaits_journal = ledger.is_open
        if self._budget is not None and ledger.current is not None:
            self.limit_to(*self._budget)

    def _check_continues(self, ledger):
        """Refuses a stored ledger that forgets steps of this optimizer, or may be behind itself."""
        recorded, executed = ledger.recorded_steps, self.executed_steps
        if executed and ledger.run_id != self.ledger.run_id:
            raise PrivacyError(
                f"The checkpoint is of another run, while {executed} private steps were executed "
                "here; loading it would forget them. Load it into a fresh DPOptimizer."
            )
        if recorded < executed:
            raise PrivacyError(
                f"The checkpoint's ledger records {recorded} private steps, but {executed} were "
                "executed; loading it would forget the difference. Load the newest checkpoint."
            )
        if ledger.is_open and self.ledger.current is not None and not self._is_journaled:
            raise PrivacyError(
                "The checkpoint was saved while a journal recorded the steps after it, which it "
                "therefore lacks. Give fit the callback PrivacyJournal with that journal's path."
            )

    def _check_journal(self, journal, executed):
        if executed and journal.run_id != self.ledger.run_id:
            raise PrivacyError(
                f"The journal {journal.path} is of another run than the {executed} private steps "
                "of this optimizer. Give this run's own journal, or the path of a new one."
            )
        if journal.total_steps < executed:
            raise PrivacyError(
                f"The journal {journal.path} records {journal.total_steps} private steps, but "
                f"{executed} were executed: it is an older copy, or steps were taken without it. "
                "Restore the newest journal, or give the path of a new one."
            )
        if not begins_with(journal.phases, self.ledger.phases(executed)):
            raise PrivacyError(
                f"The steps that the journal {journal.path} records are of other kinds than those "
                "in the checkpoint's ledger. One of the two was altered; restore intact copies."
            )


class HiddenVariable:
    """A variable behind a plain object, where neither Keras nor TensorFlow saves it."""

    __slots__ = ("value",)

    def __init__(self, initial, dtype):
        self.value = backend.state_variable(np.asarray(initial, dtype))
