"""How a probe words what it saw."""

from keras_secure.findings import Finding


def verdict(probe, failed, statement, evidence, remedy="", severity="high"):
    """Returns the finding of one probe.

    Args:
        probe: Name of the probe, the last part of the finding's id.
        failed: Whether the figure cannot be believed.
        statement: One sentence with what was seen.
        evidence: Measured values, JSON-serializable.
        remedy: What to do; kept only if the probe failed or `severity` says to.
        severity: Severity if it failed.

    Returns:
        A `Finding` with the id `trust.<probe>`.

    Example:

    >>> verdict("bounds", False, "Inputs fill the bounds.", {"share": 1.0}, "Mend them.").severity
    'ok'
    """
    if not failed:
        return Finding(f"trust.{probe}", "ok", statement, evidence)
    return Finding(f"trust.{probe}", severity, statement, evidence, remedy)


def remark(probe, statement, evidence, remedy=""):
    """Returns a finding that a reader should know of, though it does not void the figure.

    Args:
        probe: Name of the probe.
        statement: One sentence.
        evidence: Measured values.
        remedy: What would help.

    Returns:
        A `Finding` of severity `"low"`.

    Example:

    >>> remark("bounds", "Inputs fill half the bounds.", {"share": 0.5}).severity
    'low'
    """
    return Finding(f"trust.{probe}", "low", statement, evidence, remedy)
