"""How much each identity may have answered in all, remembered across restarts and crashes."""

import os
from pathlib import Path

from keras_secure.errors import InputError
from keras_secure.integrity.atomic import write_atomically
from keras_secure.integrity.strict_json import canonical_bytes, parse_json
from keras_secure.serving.refusal import Refusal

_FORMAT, _VERSION = "keras_secure.query_budgets", 1


class QueryBudgets:
    """Counts answered examples by identity.

    What the file says is never less than what was spent: it is written ahead by `block` examples,
    so that no answer waits for the disk each time. A crash costs an identity at most that many.

    Args:
        path: The file; None remembers nothing.
        block: By how many examples the file runs ahead.

    Raises:
        InputError: The file is there and cannot be used.

    Example:

    >>> budgets = QueryBudgets(None)
    >>> budgets.spend("alice", 8, budget=10)
    >>> budgets.spend("alice", 3, budget=10)
    Traceback (most recent call last):
        ...
    keras_secure.serving.refusal.Refusal: The budget of 10 examples is spent: 2 are left and 3
    were asked for.
    """

    def __init__(self, path: str | os.PathLike | None, block: int = 256):
        self._path = None if path is None else Path(path)
        self._block = block
        self._spent: dict[str, int] = {}
        if self._path is not None and self._path.exists():
            self._spent = _read(self._path)
        self._written = dict(self._spent)

    def spent(self, identity: str) -> int:
        """How many examples an identity had answered."""
        return self._spent.get(identity, 0)

    def spend(self, identity: str, rows: int, budget: int | None) -> None:
        """Counts examples before they are answered.

        Args:
            identity: Whose.
            rows: How many.
            budget: How many there may be in all; None for any number, which are counted too.

        Raises:
            Refusal: With status 429, if so many are not left; then none is counted. With status
                503, if the file cannot be written.
        """
        total = self.spent(identity) + rows
        if budget is not None and total > budget:
            left = max(0, budget - self.spent(identity))
            raise Refusal(
                429,
                f"The budget of {budget} examples is spent: {left} are left and {rows} were asked "
                "for.",
                "budget",
            )
        if self._path is not None and total > self._written.get(identity, 0):
            ahead = total + self._block if budget is None else min(total + self._block, budget)
            try:
                self._write(self._path, {**self._spent, **self._written, identity: ahead})
            except OSError as error:
                raise Refusal(503, "Budgets cannot be counted.", "budget_file", 5.0) from error
        self._spent[identity] = total

    def refund(self, identity: str, rows: int) -> None:
        """Takes back what was counted and then not answered."""
        self._spent[identity] = self.spent(identity) - rows

    def close(self) -> None:
        """Writes what was spent, to the example."""
        if self._path is not None and self._written != self._spent:
            self._write(self._path, dict(self._spent))

    def _write(self, path: Path, spent: dict[str, int]) -> None:
        content = {"format": _FORMAT, "version": _VERSION, "spent": spent}
        write_atomically(path, canonical_bytes(content) + b"\n", 0o600)
        self._written = spent


def _read(path: Path) -> dict[str, int]:
    try:
        content = parse_json(path.read_bytes(), f"The file of budgets {path}")
        spent = content["spent"]
        known = content["format"] == _FORMAT and content["version"] == _VERSION
        if not known or not all(type(count) is int and count >= 0 for count in spent.values()):
            raise ValueError("it is of another format")
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"The file of budgets {path} cannot be used: {error}. Restore it; without it every "
            "identity would begin anew."
        ) from error
    return spent
