"""An append-only file that says what may be executed before it is executed."""

import contextlib
import json
import os
import weakref
from typing import Any

from keras_secure.errors import InputError, PrivacyError
from keras_secure.integrity.atomic import sync_folder
from keras_secure.privacy.journal_records import FORMAT, JournalRecords
from keras_secure.privacy.ledger import begins_with
from keras_secure.privacy.ledger_key import LedgerKey

_BINARY = getattr(os, "O_BINARY", 0)
# What reading a line that is no record may raise.
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, PrivacyError)
# The locks of one process do not exclude each other, so it remembers what it holds itself.
_OPEN: "weakref.WeakValueDictionary[str, Journal]" = weakref.WeakValueDictionary()


class Journal:
    """The record of a run that is on the disk before the steps it speaks of are executed.

    One JSON object a line, each carrying a digest of itself and of all lines before it. A line is
    written through to the disk before `reserve` returns; steps are executed after that. So whenever
    the process ends, also by `kill -9` or a power cut, the steps executed are at most those
    recorded. An incomplete last line stands for steps that were never begun, and is dropped; any
    other damage is refused.

    Without a key the digests catch accidents and edits of parts; with a `LedgerKey` they are MACs,
    which nobody can compute without it. Neither shows that lines are missing at the end, which a
    checkpoint of later date does.

    Args:
        path: The file; created with mode 0600 if there is none.
        key: A `LedgerKey`, the path of its file, or None.

    Raises:
        PrivacyError: if the file is damaged, of another key, or in use.
        InputError: if it cannot be opened.

    Example:

    >>> import tempfile
    >>> from keras_secure.privacy import Ledger, Phase, UnstatedSampling
    >>> folder = tempfile.TemporaryDirectory()
    >>> journal, ledger = Journal(f"{folder.name}/journal"), Ledger()
    >>> ledger.begin(Phase(UnstatedSampling(), 1.0, 1.0, 8.0), 0)
    >>> journal.begin(ledger, executed_steps=0)
    >>> journal.reserve(executed_steps=0, until=4)
    >>> journal.close()
    >>> Journal(f"{folder.name}/journal").total_steps
    4
    """

    def __init__(self, path, key=None):
        self.path = os.path.realpath(path)
        self._key = None if key is None else LedgerKey.load(key)
        self._records = JournalRecords(self._key)
        self._file: Any = None
        earlier = _OPEN.get(self.path)
        if earlier is not None:
            # An earlier fit that ended by an exception; its steps can no longer be reserved.
            earlier.close()
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | _BINARY, 0o600)
            self._file = os.fdopen(descriptor, "r+b", buffering=0)
        except OSError as error:
            raise InputError(
                f"The journal {self.path} cannot be opened: {error.strerror}. Give the path of a "
                "file in a folder that exists and that you may write to."
            ) from error
        try:
            self._lock()
            self._read()
        except BaseException:
            self.close()
            raise
        _OPEN[self.path] = self

    @property
    def run_id(self):
        """The run that the journal belongs to; None for a new one."""
        return self._records.run_id

    @property
    def total_steps(self):
        """Int: how many steps may have been executed."""
        return self._records.until

    @property
    def phases(self):
        """The phases of all steps that may have been executed."""
        return self._records.phases()

    def begin(self, ledger, executed_steps):
        """Records how the coming steps are made: the ledger so far and its current phase.

        Raises:
            PrivacyError: if the ledger does not continue what is recorded here.
        """
        if ledger.current is None:
            raise PrivacyError("No phase is open, so there is nothing to record. Call fit first.")
        if self.run_id is not None and not (
            self.run_id == ledger.run_id
            and self.total_steps == executed_steps
            and begins_with(ledger.phases(executed_steps), self.phases)
        ):
            raise PrivacyError(
                f"The journal {self.path} records {self.total_steps} steps of run {self.run_id}, "
                f"which the ledger's {executed_steps} steps of run {ledger.run_id} do not "
                "continue. Give a new path."
            )
        text = ledger.to_json(executed_steps, self._key)
        plan = ledger.current.with_steps(0).to_dict()
        self._append({"kind": "begin", "format": FORMAT, "ledger": text, "plan": plan})

    def reserve(self, executed_steps, until):
        """Records that steps may now be executed until there are `until` of them in all.

        Args:
            executed_steps: The steps executed before; what was reserved beyond them is given back.
            until: At least `executed_steps`.
        """
        self._append({"kind": "reserve", "executed": executed_steps, "until": until})

    def settle(self, executed_steps):
        """Gives back what was reserved beyond the steps that were executed."""
        if self.total_steps != executed_steps:
            self.reserve(executed_steps, executed_steps)

    def close(self):
        """Lets go of the file; a process that ends by itself or by a signal does so too."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, record):
        if self._file is None:
            raise PrivacyError(
                f"The journal {self.path} was closed, or taken over by a later fit, so no step can "
                "be recorded. Do not train twice with one journal at the same time."
            )
        try:
            data = memoryview(self._records.add(record))
            while data:
                data = data[self._file.write(data) :]
            os.fsync(self._file.fileno())
        except BaseException as error:
            # Whatever reached the disk is found out when the file is read again.
            self.close()
            if not isinstance(error, OSError):
                raise
            raise PrivacyError(
                f"The journal {self.path} cannot be written ({error.strerror}), so no further step "
                "may be executed. Make room or mend the disk, then fit again to resume."
            ) from error

    def _lock(self):
        try:
            import fcntl
        except ImportError:  # Windows refuses nothing here; one process at a time is the user's.
            return
        try:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise PrivacyError(
                f"The journal {self.path} is in use by another process. Let it end, or give every "
                "training run a journal of its own."
            ) from error

    def _read(self):
        data = self._file.read()
        complete, tail = data[: data.rfind(b"\n") + 1], data[data.rfind(b"\n") + 1 :]
        try:
            for line in complete.split(b"\n")[:-1]:
                self._records.read(line)
        except _MALFORMED as error:
            raise PrivacyError(
                f"The journal {self.path} is damaged in line {self._records.count + 1} ({error}), "
                "so the privacy spent is unknown. Restore an intact copy of it, and give the key "
                "that it was written with, if any."
            ) from error
        if tail:
            self._mend(tail, len(complete))
        else:
            # The name of a new file must survive a power cut as well.
            sync_folder(os.path.dirname(self.path))

    def _mend(self, tail, end):
        """Drops a last line whose writing was interrupted."""
        newline = b""
        with contextlib.suppress(*_MALFORMED):
            size = json.JSONDecoder().raw_decode(tail.decode("latin-1"))[1]
            # Only the line's end is missing, perhaps because someone took it: the line counts.
            self._records.read(tail[:size])
            end, newline = end + size, b"\n"
        os.ftruncate(self._file.fileno(), end)
        self._file.seek(end)
        self._file.write(newline)
        os.fsync(self._file.fileno())
