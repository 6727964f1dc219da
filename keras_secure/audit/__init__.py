"""Measurements become findings, and findings become a report that a person can act on."""

from keras_secure.audit.compare_compressed import compare_compressed
from keras_secure.audit.compression_report import CompressionReport
from keras_secure.audit.judge import judge
from keras_secure.audit.report import AuditReport
from keras_secure.audit.robustness import robustness_section
from keras_secure.audit.summary import summary_table
from keras_secure.audit.write import write_report

__all__ = [
    "AuditReport",
    "CompressionReport",
    "compare_compressed",
    "judge",
    "robustness_section",
    "summary_table",
    "write_report",
]
