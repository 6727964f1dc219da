"""Verification: is it, to the byte, what those signed whom the caller trusts?"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from keras_secure.findings import Finding
from keras_secure.integrity.authenticate import Authentication
from keras_secure.integrity.differences import find_differences
from keras_secure.integrity.freshness import release_problems, replay_hints
from keras_secure.integrity.report import VerificationReport
from keras_secure.integrity.shards import SHARD_SIZE, shard_bounds
from keras_secure.integrity.signature_file import own_names, read_signature, signature_path
from keras_secure.integrity.small_files import read_small_file
from keras_secure.integrity.statement import Statement
from keras_secure.integrity.times import as_time, now
from keras_secure.integrity.tree import WHOLE, survey
from keras_secure.integrity.trust import Trust, as_trust


def verify(
    path: str | os.PathLike,
    trust: Any,
    *,
    signature: str | os.PathLike | None = None,
    endorsements: Iterable[bytes | str | os.PathLike] = (),
    min_serial: int | None = None,
    not_before: datetime | str | None = None,
    at: datetime | str | None = None,
    check_modes: bool = True,
    allow_unknown_signers: bool = False,
) -> VerificationReport:
    """Checks a signed folder or file against those whom the caller trusts.

    Files are hashed as a stream and never interpreted, and nothing that the signature file says is
    believed before its signature holds, so this is safe on hostile input.

    The answer holds for the bytes that were read: keep the folder out of reach of writers between
    this call and its use.

    Args:
        path: The folder or file that was signed, by `sign` or by OpenSSF model-signing with a key.
        trust: A public key, its PEM file or the file's bytes; several of these, any of which is
            enough; a `Trust`; or the path of a trust file.
        signature: Where the signature is, if not at its usual place.
        endorsements: What `endorse` returned, or files of it: new keys that trusted ones vouch for.
        min_serial: The lowest serial number that is accepted, so that an older release, whose
            signature is as valid as ever, is refused.
        not_before: The earliest time of signing that is accepted, for the same purpose.
        at: When to look at the dates of keys; the present by default.
        check_modes: Whether other permission bits than the signed ones are a refusal.
        allow_unknown_signers: Whether signatures by keys that the trust does not know are passed
            over, if enough others hold. Otherwise they are a refusal, as they may be broken ones.

    Returns:
        A `VerificationReport` that names every cause: of changed bytes the file and the offsets, of
        signatures the key.

    Raises:
        InputError: A key, an argument or a file cannot be used, or there is nothing at `path`.
        IntegrityError: A file changes while it is read.

    Example:

    >>> import tempfile
    >>> from keras_secure.integrity import generate_key_pair, sign
    >>> private_key, public_key = generate_key_pair()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "weights").write_bytes(b"123")
    ...     _ = sign(folder, private_key)
    ...     _ = Path(folder, "weights").write_bytes(b"124")
    ...     verify(folder, public_key).describe()
    ["'weights' was changed at bytes 0 to 3"]
    """
    root = Path(os.path.abspath(path))
    target = signature_path(root, signature)
    seen = read_signature(
        target,
        with_endorsements(as_trust(trust), endorsements),
        now() if at is None else as_time(at, "at"),
        allow_unknown_signers,
    )
    if seen.statement is None:
        return _report(root, seen, [])
    statement = seen.statement
    findings = release_problems(root, statement, min_serial, not_before)
    if root.is_dir() == (WHOLE in statement.files):
        findings.append(_other_kind(root))
        return _report(root, seen, findings)
    beside = [name for name in statement.files if name != WHOLE]
    tree = survey(root, own_names(root, target), beside)
    differences = find_differences(statement, tree, check_modes)
    return _report(root, seen, [*findings, *differences, *replay_hints(statement, differences)])


def verify_contents(
    data: bytes, path: str | os.PathLike, trust: Any, *, min_serial: int | None = None
) -> VerificationReport:
    """Checks bytes that were read already against the signature of the file they come from.

    What is used is then what was verified, whoever changes the file meanwhile.

    Args:
        data: The contents.
        path: The file, beside which the signature is.
        trust: As for `verify`.
        min_serial: As for `verify`.

    Returns:
        A `VerificationReport`.

    Raises:
        InputError: The trust cannot be used.
    """
    root = Path(os.path.abspath(path))
    seen = read_signature(signature_path(root), as_trust(trust), now())
    if seen.statement is None:
        return _report(root, seen, [])
    findings = release_problems(root, seen.statement, min_serial, None)
    if not _are_signed(data, seen.statement):
        findings.append(
            _finding("changed", f"{root.name!r} was changed", {"path": WHOLE, "size": len(data)})
        )
    return _report(root, seen, findings)


def with_endorsements(trust: Trust, endorsements: Iterable[bytes | str | os.PathLike]) -> Trust:
    """A trust that also heeds the given endorsements, or files of them."""
    if isinstance(endorsements, bytes | str | os.PathLike):
        endorsements = [endorsements]
    new = [each if isinstance(each, bytes) else read_small_file(each) for each in endorsements]
    return replace(trust, endorsements=(*trust.endorsements, *new)) if new else trust


def _are_signed(data: bytes, statement: Statement) -> bool:
    record = statement.files.get(WHOLE)
    if record is None or record.size not in (None, len(data)):
        return False
    size = max(len(data), 1) if statement.shard_size is None else statement.shard_size or SHARD_SIZE
    bounds = [(0, len(data))] if statement.shard_size is None else shard_bounds(len(data), size)
    view = memoryview(data)
    found = [hashlib.new(statement.algorithm, view[start:end]).hexdigest() for start, end in bounds]
    return tuple(found) == record.digests


def _other_kind(root: Path) -> Finding:
    kinds = ("a folder", "a single file")
    now_kind, then_kind = kinds if root.is_dir() else kinds[::-1]
    return _finding("special", f"it is {now_kind}, and {then_kind} was signed", {"path": WHOLE})


def _finding(name: str, statement: str, evidence: dict[str, Any]) -> Finding:
    remedy = "Do not use it; get it again from its publisher."
    return Finding(f"integrity.{name}", "critical", statement, evidence, remedy)


def _report(root: Path, seen: Authentication, findings: list[Finding]) -> VerificationReport:
    statement = seen.statement
    if statement is None:
        return VerificationReport(str(root), (*seen.findings, *findings))
    return VerificationReport(
        str(root),
        (*seen.findings, *findings),
        seen.signers,
        "keras_secure" if statement.own else "model_signing",
        statement.created,
        statement.serial,
        len(statement.files),
    )
