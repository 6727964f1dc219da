"""Whether an audit log is what was written, and which line is not."""

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keras_secure.errors import InputError, IntegrityError
from keras_secure.findings import Finding
from keras_secure.integrity.strict_json import canonical_bytes, parse_json
from keras_secure.integrity.trust import as_trust, date_problem
from keras_secure.serving.audit_log_report import AuditLogReport
from keras_secure.serving.audit_record import FIRST, HEAD_SUFFIX, hash_of, is_signed

_MAX_LINE = 2**27
_MAX_NAMED = _MAX_FINDINGS = 1000


def verify_audit_log(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    trust: Any,
    *,
    head: str | os.PathLike | None = None,
    anchors: Iterable[str] = (),
) -> AuditLogReport:
    """Checks every line of a log, and whether its checkpoints were signed by whom one trusts.

    A line that was edited, removed, added, or put elsewhere breaks the chain and is named. Lines
    that were cut off at the end are missed up to the last checkpoint that `head` or an anchor
    knows. Lines after the last checkpoint are covered by the chain alone: who can write to the file
    can cut them off, or write others in their place and compute the chain anew.

    Args:
        paths: The log, or its files in their order.
        trust: Whose checkpoints count: a public key or what else
            `keras_secure.integrity.verify` takes.
        head: The file with the last checkpoint; `PATH.head` of the last file if it is there.
        anchors: Earlier values of `AuditLogReport.head`, kept where the server cannot write.

    Returns:
        The `AuditLogReport`.

    Raises:
        InputError: A file cannot be read, or an argument cannot be used.

    Example:

    >>> import tempfile
    >>> from keras_secure.integrity import generate_key_pair
    >>> from keras_secure.serving import AuditLog
    >>> private_key, public_key = generate_key_pair()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = AuditLog(f"{folder}/audit.jsonl", private_key)
    ...     log.close()
    ...     file = Path(folder, "audit.jsonl")
    ...     _ = file.write_bytes(file.read_bytes().replace(b'"stop"', b'"halt"'))
    ...     verify_audit_log(file, public_key).failures[0].id
    'audit_log.edited'
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not given:
        raise InputError("No audit log was given.")
    keys = _Keys(trust)
    expected = [(f"the anchor {anchor}", *_anchor(anchor)) for anchor in anchors]
    last = Path(os.path.abspath(given[-1]))
    head_path = last.with_name(last.name + HEAD_SUFFIX) if head is None else Path(head)
    if head is not None or head_path.exists():
        expected.append((str(head_path), *_head(head_path, keys)))
    reading = _Reading(keys, frozenset(seq for _, seq, _ in expected))
    for path in given:
        for line in _lines(Path(path)):
            reading.read(line)
    reading.expect(expected)
    return reading.report()


class _Keys:
    """The trusted keys by fingerprint."""

    def __init__(self, trust: Any):
        trusted = as_trust(trust)
        gone = {item.fingerprint for item in trusted.revoked}
        self._keys = {key.fingerprint: key for key in trusted.keys if key.fingerprint not in gone}

    def problem(self, record: dict[str, Any]) -> str:
        """Says why a checkpoint is not believed; empty where it is."""
        key = self._keys.get(record.get("key", ""))
        if key is None:
            return "it names a key that is not trusted"
        if not is_signed(record, key.key):
            return "its signature does not hold"
        return date_problem(key, datetime.fromtimestamp(record["time"], UTC))


class _Reading:
    """The state of one pass over the lines."""

    def __init__(self, keys: _Keys, wanted: frozenset[int]):
        self._keys, self._wanted = keys, wanted
        self._findings: list[Finding] = []
        self._hashes: dict[int, str] = {}
        self._log_id: str | None = None
        self._next, self._previous = 0, FIRST
        self._lines = self._signed = self._torn = 0
        self._begun = False

    def read(self, line: bytes) -> None:
        if not line.endswith(b"\n"):
            self._torn = len(line)
            self._find(
                "torn",
                "info",
                f"The log ends with {len(line)} bytes of a line that was never completed.",
                bytes=len(line),
            )
            return
        self._lines += 1
        place = self._lines
        record = _parse(line)
        if record is None:
            self._find("edited", "critical", f"Line {place} is not what was written.", line=place)
            # What follows is held against the number that belongs here.
            self._next, self._previous = self._next + 1, ""
            return
        self._check_place(place, record)
        if record["seq"] in self._wanted:
            self._hashes[record["seq"]] = record["hash"]
        self._next, self._previous = record["seq"] + 1, record["hash"]
        self._check_kind(place, record)

    def _check_place(self, place: int, record: dict[str, Any]) -> None:
        seq = record["seq"]
        if not self._begun:
            self._begun = True
            # Only a file that goes on with another begins in the middle of the chain.
            if seq != 0 and self._lines == 1 and record["kind"] == "continue":
                self._next, self._previous = seq, record["prev"]
                self._find(
                    "continued",
                    "info",
                    f"The log begins with number {seq}; verify the files before it as well.",
                    seq=seq,
                )
        if seq > self._next:
            missing = list(range(self._next, min(seq, self._next + _MAX_NAMED)))
            self._find(
                "removed",
                "critical",
                f"Line {place} has number {seq}; numbers {self._next} to {seq - 1} are not before "
                "it.",
                line=place,
                missing=missing,
            )
        elif seq < self._next:
            self._find(
                "reordered",
                "critical",
                f"Line {place} has number {seq}, which belongs before {self._next}.",
                line=place,
                seq=seq,
            )
        elif record["prev"] != self._previous and self._previous:
            self._find(
                "chain",
                "critical",
                f"Line {place} does not follow from the line before it.",
                line=place,
                seq=seq,
            )

    def _check_kind(self, place: int, record: dict[str, Any]) -> None:
        if record["kind"] in ("start", "continue", "checkpoint"):
            if self._log_id not in (None, record.get("log")):
                self._find("other_log", "critical", f"Line {place} is of another log.", line=place)
            self._log_id = record.get("log")
        if record["kind"] == "start" and record.get("torn_bytes"):
            self._find(
                "torn",
                "info",
                f"Before line {place} the server was killed while it wrote {record['torn_bytes']} "
                "bytes of a line.",
                line=place,
                bytes=record["torn_bytes"],
            )
        if record["kind"] != "checkpoint":
            return
        problem = self._keys.problem(record)
        if problem:
            self._find(
                "signature",
                "critical",
                f"The checkpoint in line {place} does not count: {problem}.",
                line=place,
            )
        else:
            self._signed = self._lines

    def expect(self, expected: list[tuple[str, int, str]]) -> None:
        for name, seq, digest in expected:
            if self._hashes.get(seq) == digest:
                continue
            there = seq in self._hashes
            self._find(
                "changed" if there else "truncated",
                "critical",
                f"According to {name}, the log has a line of number {seq}, which is "
                f"{'another one' if there else 'not there'}.",
                seq=seq,
            )

    def report(self) -> AuditLogReport:
        if not self._signed:
            self._find(
                "unsigned", "high", "No checkpoint of the log is signed by a key that is trusted."
            )
        elif self._lines > self._signed:
            tail = self._lines - self._signed
            self._find(
                "unsigned_tail",
                "info",
                f"The last {tail} lines follow the last checkpoint: no signature covers them yet.",
                lines=tail,
            )
        head = f"{self._next - 1}:{self._previous}" if self._previous and self._lines else ""
        return AuditLogReport(tuple(self._findings), self._lines, self._signed, head, self._torn)

    def _find(self, kind: str, severity: Any, statement: str, **evidence: Any) -> None:
        if len(self._findings) < _MAX_FINDINGS or severity != "critical":
            self._findings.append(Finding(f"audit_log.{kind}", severity, statement, evidence))


def _parse(line: bytes) -> dict[str, Any] | None:
    """The record of a line, or None if it is not, to the byte, one that was written."""
    try:
        record = parse_json(line, "It")
    except IntegrityError:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        return None
    if type(record.get("seq")) is not int or not isinstance(record.get("prev"), str):
        return None
    if not isinstance(record.get("time"), float) or record.get("hash") != hash_of(record):
        return None
    return record if canonical_bytes(record) + b"\n" == line else None


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            while line := file.readline(_MAX_LINE):
                yield line
    except OSError as error:
        raise InputError(f"The audit log {path} cannot be read: {error.strerror}.") from error


def _anchor(text: str) -> tuple[int, str]:
    seq, _, digest = text.partition(":")
    if not (seq.isascii() and seq.isdigit()) or len(digest) != 64:
        raise InputError(f"{text!r} is no anchor; expected SEQ:HASH, as `audit-log verify` prints.")
    return int(seq), digest


def _head(path: Path, keys: _Keys) -> tuple[int, str]:
    try:
        line = path.read_bytes()
    except OSError as error:
        raise InputError(f"The checkpoint {path} cannot be read: {error.strerror}.") from error
    record = _parse(line)
    if record is None or keys.problem(record):
        raise InputError(
            f"{path} holds no checkpoint by a key that is trusted. If it was edited, verify the "
            "log against a copy of it, or against an anchor."
        )
    return record["seq"], record["hash"]
