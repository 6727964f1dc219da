"""Whether what was signed is the release that is expected, or an older one in its place."""

from datetime import datetime
from pathlib import Path

from keras_secure.arguments import is_integer
from keras_secure.errors import InputError
from keras_secure.findings import Finding
from keras_secure.integrity.statement import Statement
from keras_secure.integrity.times import as_time, format_time

_REMEDY = "Do not use it; get it again from its publisher."


def release_problems(
    root: Path, statement: Statement, min_serial: int | None, not_before: datetime | str | None
) -> list[Finding]:
    """What speaks against the release as a whole: an old number, an old date, another name.

    Args:
        root: The signed folder or file.
        statement: What was signed.
        min_serial: The lowest serial number to accept; None for any.
        not_before: The earliest time of signing to accept; None for any.

    Returns:
        A finding for each problem.

    Raises:
        InputError: `not_before` is no time, or `min_serial` no whole number.
    """
    if min_serial is not None and not is_integer(min_serial):
        raise InputError(f"min_serial is {min_serial!r}; expected a whole number.")
    findings = []
    state = {"serial": statement.serial, "created": statement.created}
    if min_serial is not None and statement.serial < min_serial:
        findings.append(
            _problem(
                "rollback",
                f"it has serial number {statement.serial}, and {min_serial} or later was expected: "
                "an older release was put in its place",
                {**state, "min_serial": min_serial},
            )
        )
    if not_before is not None:
        earliest = format_time(as_time(not_before, "not_before"))
        if statement.created < earliest:
            when = statement.created or "no time that it tells"
            findings.append(
                _problem(
                    "rollback",
                    f"it was signed at {when}, and {earliest} or later was expected: an older "
                    "release was put in its place",
                    {**state, "not_before": earliest},
                )
            )
    if statement.check_name and root.name != statement.name:
        findings.append(
            _problem(
                "name",
                f"it is named {root.name!r}, and was signed under the name {statement.name!r}",
                {"name": root.name, "signed_name": statement.name},
            )
        )
    return findings


def replay_hints(statement: Statement, differences: list[Finding]) -> list[Finding]:
    """A hint where so much differs that the signature itself may be the one that was replaced."""
    changed = {"integrity.changed", "integrity.truncated", "integrity.extended"}
    number = sum(finding.id in changed for finding in differences)
    full = sum(bool(record.size) for record in statement.files.values() if record.size is not None)
    if not number or number * 2 < full or not statement.own:
        return []
    return [
        Finding(
            "integrity.other_contents",
            "info",
            f"the signature is valid, but for other contents: those of serial number "
            f"{statement.serial}, signed at {statement.created}; an old signature may have been "
            "put here",
            {"serial": statement.serial, "created": statement.created, "changed": number},
            "Compare time and serial number with those of the release that you expect.",
        )
    ]


def _problem(name: str, statement: str, evidence: dict) -> Finding:
    return Finding(f"integrity.{name}", "critical", statement, evidence, _REMEDY)
