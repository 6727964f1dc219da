"""Who signed: every signature of an envelope is checked, and named when it does not count."""

from dataclasses import dataclass
from datetime import datetime

from keras_secure.errors import IntegrityError
from keras_secure.findings import Finding
from keras_secure.integrity.dsse import (
    STATEMENT_PAYLOAD,
    Envelope,
    Signature,
    dump_envelope,
    key_hint,
    signed_bytes,
)
from keras_secure.integrity.endorsement import known_keys
from keras_secure.integrity.key_pem import public_pem
from keras_secure.integrity.keys import is_signed_by, kind_of
from keras_secure.integrity.paths import printable
from keras_secure.integrity.report import Signer
from keras_secure.integrity.statement import Statement
from keras_secure.integrity.statement_reading import decode_statement
from keras_secure.integrity.times import as_time
from keras_secure.integrity.trust import Trust, TrustedKey, date_problem

_AGAIN = "Do not use it; get it again from its publisher."


@dataclass(frozen=True)
class Authentication:
    """Whether a signature file can be believed, and what it says.

    Args:
        statement: The signed statement; None if it cannot be believed.
        signers: Trusted keys whose signatures hold.
        findings: What does not hold, or is worth knowing.
    """

    statement: Statement | None
    signers: tuple[Signer, ...]
    findings: tuple[Finding, ...]


def authenticate(
    envelope: Envelope, data: bytes, trust: Trust, at: datetime, allow_unknown_signers: bool
) -> Authentication:
    """Checks all signatures of an envelope against those whom a verifier trusts.

    Args:
        envelope: What was read from `data`.
        data: The bytes of the signature file.
        trust: Whom to believe.
        at: When to look at the dates of keys.
        allow_unknown_signers: Whether signatures by keys that the trust does not know are passed
            over, if there are enough others.

    Returns:
        An `Authentication`; its statement is None unless enough trusted keys signed it.
    """
    if envelope.payload_type != STATEMENT_PAYLOAD:
        return _refused(_container(f"its payload is of type {envelope.payload_type!r}"))
    keys = known_keys(trust, at)
    message = signed_bytes(envelope.payload, envelope.payload_type)
    findings: list[Finding] = []
    unknown: list[Finding] = []
    valid: list[tuple[Signature, TrustedKey]] = []
    for signature in envelope.signatures:
        key = _signer(signature, message, keys)
        if key is not None:
            valid.append((signature, key))
            continue
        why = _why_invalid(signature, envelope, trust, keys)
        (unknown if why.id == "integrity.untrusted_key" else findings).append(why)
    if not valid:
        return _refused(*findings, *unknown)
    try:
        statement = decode_statement(envelope.payload)
    except IntegrityError as error:
        return _refused(_finding("statement", str(error).rstrip(".")), *findings)
    if statement.own and (problem := _container_problem(envelope, data, valid)):
        return _refused(_container(problem), *findings)
    good: dict[str, TrustedKey] = {}
    for _, key in valid:
        if finding := _key_problem(key, trust, at, statement):
            findings.append(finding)
        else:
            good[key.fingerprint] = key
    # Where a signature does not count, that is the cause, and too few are left because of it.
    if len(good) < trust.threshold and not findings:
        findings.append(_too_few(good, trust.threshold))
    signers = tuple(
        Signer(name, key.name, kind_of(key.key), key.endorsed_by) for name, key in good.items()
    )
    passed_over = allow_unknown_signers and not findings
    findings += [_passed_over(finding) for finding in unknown] if passed_over else unknown
    believed = len(good) >= trust.threshold and not (findings and not passed_over)
    return Authentication(statement if believed else None, signers, tuple(findings))


def _signer(signature: Signature, message: bytes, keys: list[TrustedKey]) -> TrustedKey | None:
    # The name that a signature gives itself is no proof, and may be the very thing that was edited.
    ordered = sorted(keys, key=lambda key: key.fingerprint != signature.key_id)
    return next((key for key in ordered if is_signed_by(key.key, signature.value, message)), None)


def _why_invalid(
    signature: Signature, envelope: Envelope, trust: Trust, keys: list[TrustedKey]
) -> Finding:
    name = printable(signature.key_id)
    claimed = next((key for key in keys if _claims(signature, envelope, key)), None)
    for entry in trust.revoked:
        if claimed is None and entry.fingerprint == signature.key_id:
            return _finding("revoked_key", f"it is signed by {name}, revoked: {entry.reason}")
    if claimed is None:
        trusted = ", ".join(key.label for key in keys) or "nobody"
        who = "by a certificate, not by a key" if envelope.keyless else f"by {name or 'a key'}"
        return _finding(
            "untrusted_key",
            f"it is signed {who}, which is not trusted; trusted are: {trusted}",
            {"key_id": name, "hint": printable(envelope.hint)},
            "If you trust that key, get it from its owner, not from here, and add it to the trust.",
        )
    try:
        statement = decode_statement(envelope.payload)
        edited = "" if statement.own or not signature.key_id else "it lost what only ours has"
    except IntegrityError as error:
        edited = str(error).rstrip(".")
    if edited:
        line = edited if edited.startswith("The signed") else f"the statement was edited: {edited}"
        return _finding("statement", line, {"key_id": name})
    return _finding(
        "signature",
        f"the signature by {claimed.label} does not fit the statement: one of them was edited or "
        "put here from elsewhere",
        {"key_id": name},
    )


def _claims(signature: Signature, envelope: Envelope, key: TrustedKey) -> bool:
    if signature.key_id:
        return signature.key_id == key.fingerprint
    if envelope.hint:
        return envelope.hint == key_hint(public_pem(key.key))
    return not envelope.keyless


def _container_problem(
    envelope: Envelope, data: bytes, valid: list[tuple[Signature, TrustedKey]]
) -> str:
    """Says how the unsigned part of a signature file of our own was edited; empty if it was not."""
    if dump_envelope(envelope) != data:
        return "it is not, to the byte, what signing writes"
    if any(signature.key_id != key.fingerprint for signature, key in valid):
        return "a signature bears the name of another key than the one that made it"
    if len({key.fingerprint for _, key in valid}) < len(valid):
        return "two signatures are by the same key"
    first = [key for signature, key in valid if signature is envelope.signatures[0]]
    if first and envelope.hint != key_hint(public_pem(first[0].key)):
        return "its hint names another key than the one that signed"
    return ""


def _key_problem(
    key: TrustedKey, trust: Trust, at: datetime, statement: Statement
) -> Finding | None:
    if entry := trust.find_revocation(key):
        return _finding(
            "revoked_key",
            f"it is signed by {key.label}, revoked: {entry.reason}",
            {"fingerprint": key.fingerprint, "reason": entry.reason},
            "Get a version that was signed by another key.",
        )
    problem = date_problem(key, at)
    if not problem and statement.created:
        claimed = date_problem(key, as_time(statement.created, "The time of signing"))
        problem = claimed and f"{claimed}, and it signed at {statement.created}"
    if problem:
        return _finding(
            "expired_key",
            f"it is signed by {key.label}, which is out of its dates: {problem}",
            {"fingerprint": key.fingerprint},
            "Get a version that was signed by a valid key, or a newer trust file.",
        )
    return None


def _too_few(good: dict[str, TrustedKey], threshold: int) -> Finding:
    names = ", ".join(key.label for key in good.values()) or "none"
    return _finding(
        "threshold",
        f"it is signed by {len(good)} of the {threshold} trusted keys that must sign ({names})",
        {"signed": sorted(good), "threshold": threshold},
        "Get a version that all who must have signed.",
    )


def _passed_over(finding: Finding) -> Finding:
    return Finding(finding.id, "info", finding.statement, finding.evidence, finding.remedy)


def _container(problem: str) -> Finding:
    return _finding("signature_file", f"the signature file was edited: {problem}")


def _finding(
    name: str, statement: str, evidence: dict | None = None, remedy: str = _AGAIN
) -> Finding:
    return Finding(f"integrity.{name}", "critical", statement, evidence or {}, remedy)


def _refused(*findings: Finding) -> Authentication:
    return Authentication(None, (), findings)
