"""Gathers findings while a scan runs, within its limits."""

import math
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from keras_secure.findings import Finding, Severity
from keras_secure.integrity.scan.limits import ScanLimits
from keras_secure.integrity.scan.place import Place, quoted
from keras_secure.integrity.scan.rules import RULES

MOST_FINDINGS = 2000


class OutOfTime(Exception):
    """The scan has used up its time."""


class Collector:
    """What every inspection writes to and asks for its limits.

    Args:
        emit: Takes each finding as it is made, so that none is lost where the process dies.
        limits: The limits of the scan.
        allow: Names that the user vouches for: `"module>Class"`, registered names, operations.
        deadline: Value of `time.monotonic()` at which the scan gives up.
    """

    def __init__(
        self,
        emit: Callable[[Finding], None],
        limits: ScanLimits,
        allow: Collection[str] = (),
        deadline: float = float("inf"),
    ):
        self.limits = limits
        self.allow = frozenset(allow)
        self.files = 0
        self.bytes = 0
        self.unfolded = 0
        self.parameters: dict[str, tuple[int, int]] = {}
        self._emit = emit
        self._deadline = deadline
        self._counts: Counter[tuple[str, str]] = Counter()
        self._rules: Counter[str] = Counter()
        self._told = 0
        self._omitted = 0

    def add(
        self,
        rule: str,
        statement: str,
        place: Place,
        severity: Severity | None = None,
        **evidence: Any,
    ) -> None:
        """Reports one finding.

        Args:
            rule: Its identifier, a key of `RULES`.
            statement: One sentence on what was found; names in it are to be `quoted`.
            place: Where it was found.
            severity: Another severity than the rule's own.
            **evidence: Further values, JSON-serializable; long strings are cut.
        """
        key = (rule, place.file)
        self._counts[key] += 1
        # The first of a kind is always told, so that no flood of others hides it.
        known = self._rules[rule]
        self._rules[rule] += 1
        if self._counts[key] > self.limits.findings or (known and self._told >= MOST_FINDINGS):
            self._omitted += 1
            return
        self._told += 1
        kept = {name: _short(value) for name, value in evidence.items()}
        self._emit(
            Finding(
                rule,
                severity or RULES[rule].severity,
                statement,
                {"file": place.file, "place": place.inner, **kept},
                RULES[rule].remedy,
            )
        )

    def count_parameters(self, place: Place, declared: int = 0, stored: int = 0) -> None:
        """Adds to what the files of one folder declare and store together.

        Args:
            place: A file of the folder.
            declared: Parameters that a configuration asks for.
            stored: Values that weights hold.
        """
        folder = place.file.rpartition("/")[0]
        before = self.parameters.get(folder, (0, 0))
        self.parameters[folder] = (before[0] + declared, before[1] + stored)

    def tick(self) -> None:
        """Ends the scan where its time is over; called in every loop over what a file holds."""
        if time.monotonic() > self._deadline:
            raise OutOfTime

    def close(self) -> None:
        """Says how many findings were counted only."""
        if self._omitted:
            self.add(
                "scan.limits.findings",
                f"{self._omitted} more findings, of kinds that are listed, are not.",
                Place("."),
                count=self._omitted,
            )


def _short(value: Any) -> Any:
    if isinstance(value, (str, bytes)):
        return quoted(value)
    if isinstance(value, (list, tuple)):
        return [_short(item) for item in value[:20]]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
        return quoted(str(value)) if value.bit_length() < 4000 else "a huge number"
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)  # of which JSON has no number
    plain = isinstance(value, (bool, int, float, type(None)))
    return value if plain else quoted(repr(value)[:2000])
