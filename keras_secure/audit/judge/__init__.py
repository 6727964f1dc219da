"""From measurements to findings: one file per subject, pure functions, thresholds with reasons."""

from keras_secure.audit.judge.accuracy import judge_accuracy
from keras_secure.audit.judge.integrity import judge_integrity
from keras_secure.audit.judge.membership import judge_membership
from keras_secure.audit.judge.one_run import judge_one_run
from keras_secure.audit.judge.privacy import judge_privacy
from keras_secure.audit.judge.robustness import judge_robustness
from keras_secure.audit.judge.serving import judge_serving
from keras_secure.audit.judge.watermark import judge_watermark
from keras_secure.findings import Finding

__all__ = [
    "judge",
    "judge_accuracy",
    "judge_integrity",
    "judge_membership",
    "judge_one_run",
    "judge_privacy",
    "judge_robustness",
    "judge_serving",
    "judge_watermark",
]


def judge(report) -> list[Finding]:
    """Draws every conclusion that the sections of an audit support.

    Args:
        report: An `AuditReport`; a section that is absent yields no finding.

    Returns:
        The findings, subject by subject.

    Example:

    >>> from keras_secure.audit import AuditReport
    >>> judge(AuditReport())
    []
    """
    findings = judge_accuracy(report.models, report.baseline)
    if report.robustness:
        findings += judge_robustness(report.robustness, report.baseline)
    if report.privacy:
        findings += judge_privacy(report.privacy, report.membership, report.lira)
    findings += judge_membership(report.membership)
    findings += judge_membership(report.lira, "lira")
    findings += judge_one_run(report.one_run, report.privacy)
    if report.watermark:
        findings += judge_watermark(report.watermark)
    if report.integrity:
        findings += judge_integrity(report.integrity)
    if report.serving:
        findings += judge_serving(report.serving)
    return findings
