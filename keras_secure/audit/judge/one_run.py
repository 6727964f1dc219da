"""Whether an audit in one run agrees with the ledger."""

from collections.abc import Mapping

from keras_secure.audit.sections import PrivacySection
from keras_secure.findings import Finding
from keras_secure.leakage import OneRunReport


def judge_one_run(
    one_run: Mapping[str, OneRunReport], privacy: PrivacySection | None = None
) -> list[Finding]:
    """Holds every lower bound on epsilon against the ledger of its model.

    Args:
        one_run: Model name to the outcome of its audit.
        privacy: What the ledger of the private model says, if there is one.

    Returns:
        One finding per model.
    """
    findings = []
    for name, measured in one_run.items():
        promise = privacy if privacy and privacy.get("model") == name else None
        if promise:
            findings.append(measured.finding(promise["epsilon"], promise["target_delta"], name))
        else:
            findings.append(measured.finding(name=name))
    return findings
