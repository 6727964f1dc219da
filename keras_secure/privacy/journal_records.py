"""The lines of a journal: what each says, and how each is bound to all before it."""

import hashlib
import hmac
import json

from keras_secure.privacy.ledger import Ledger, Phase

FORMAT = 1
# Keeps the digest of a line from being taken for that of anything else under the same key.
_START = b"keras_secure journal "


class JournalRecords:
    """What the lines say so far, and the digest that the next one builds on.

    Args:
        key: A `LedgerKey`, under which digests are MACs, or None.
    """

    def __init__(self, key):
        self.key, self.count = key, 0
        self.run_id: str | None = None
        self.base: list[Phase] = []
        self.plan: Phase | None = None
        self.start = self.executed = self.until = 0
        self.digest = ""

    def phases(self):
        """The phases with everything that was reserved."""
        if self.plan is None or self.until == self.start:
            return list(self.base)
        return [*self.base, self.plan.with_steps(self.until - self.start)]

    def add(self, record):
        """Takes in a record and returns its line."""
        digest = self._digest(record)
        self._apply(record)
        self.digest, self.count = digest, self.count + 1
        return json.dumps({**record, "digest": digest}).encode() + b"\n"

    def read(self, line):
        """Takes in a line; raises `ValueError` if it does not continue the lines before it."""
        record = json.loads(line)
        if not isinstance(record, dict):
            raise ValueError("it is no record")
        digest = record.pop("digest")
        expected = self._digest(record)
        if not isinstance(digest, str) or not hmac.compare_digest(
            digest.encode(), expected.encode()
        ):
            raise ValueError("its digest does not fit")
        self._apply(record)
        self.digest, self.count = digest, self.count + 1

    def _digest(self, record):
        text = json.dumps(record, sort_keys=True, separators=(",", ":"))
        data = _START + self.digest.encode() + text.encode()
        return hashlib.sha256(data).hexdigest() if self.key is None else self.key.mac(data)

    def _apply(self, record):
        if record["kind"] == "begin":
            if record["format"] != FORMAT:
                raise ValueError(f"unknown format {record['format']!r}")
            ledger = Ledger.from_json(record["ledger"], self.key)
            total = ledger.recorded_steps
            if self.run_id is not None and (ledger.run_id != self.run_id or total != self.until):
                raise ValueError(f"it does not continue the {self.until} steps before it")
            self.plan = Phase.from_dict(record["plan"])
            self.run_id, self.base = ledger.run_id, ledger.finished
            self.start = self.executed = self.until = total
        elif record["kind"] == "reserve":
            executed, until = record["executed"], record["until"]
            if self.plan is None or not all(type(count) is int for count in (executed, until)):
                raise ValueError("it reserves steps of no phase")
            if not self.executed <= executed <= self.until or until < executed:
                raise ValueError(
                    f"it counts {executed} steps and reserves {until} after {self.executed} steps "
                    f"and a reservation of {self.until}"
                )
            self.executed, self.until = executed, until
        else:
            raise ValueError(f"unknown record {record['kind']!r}")
