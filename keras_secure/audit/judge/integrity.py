"""Whether the bundle is what was signed, and whether a change would be noticed."""

from keras_secure.audit.sections import IntegritySection, TamperTest
from keras_secure.findings import Finding


def judge_integrity(integrity: IntegritySection) -> list[Finding]:
    """Judges the signature and the tamper test.

    Args:
        integrity: The verification and, if it was run, the tamper test.

    Returns:
        One finding for the signature and one for the tamper test.
    """
    files = list(integrity.get("files", []))
    evidence = {"files": len(files), "key_fingerprint": integrity.get("key_fingerprint", "")}
    count = f" over {len(files)} file{'s' if len(files) > 1 else ''}" if files else ""
    if integrity["verified"]:
        statement = f"The signature{count} verifies."
        findings = [Finding("integrity.signature", "ok", statement, evidence)]
    else:
        findings = [
            Finding(
                "integrity.signature",
                "critical",
                f"The signature{count} does not verify: the bundle is not what was signed.",
                evidence,
                "Do not load it. Export and sign again from a model you trust.",
            )
        ]
    if "tamper" in integrity:
        findings.append(_judge_tamper(integrity["tamper"]))
    return findings


def _judge_tamper(tamper: TamperTest) -> Finding:
    named = tamper.get("named")
    evidence = {"file": tamper["file"], "detected": tamper["detected"], "named": named}
    flipped = f"One flipped byte in {tamper['file']}"
    if not tamper["detected"]:
        return Finding(
            "integrity.tamper",
            "critical",
            f"{flipped} went unnoticed.",
            evidence,
            "Sign again with keras_secure.integrity.sign, which covers every file.",
        )
    if named != tamper["file"]:
        return Finding(
            "integrity.tamper",
            "medium",
            f"{flipped} was refused, but {f'{named} was blamed' if named else 'not named'}.",
            evidence,
            "Verify with keras_secure.integrity.verify, which names every file.",
        )
    return Finding("integrity.tamper", "ok", f"{flipped} was refused and named.", evidence)
