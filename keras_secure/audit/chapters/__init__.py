"""The tables of a report, in reading order: written once, rendered as Markdown and as HTML."""

from keras_secure.audit.chapters.accuracy import (
    examples_chapter,
    models_chapter,
    robustness_chapter,
)
from keras_secure.audit.chapters.chapter import Chapter, Table, model_names
from keras_secure.audit.chapters.leakage import (
    membership_chapter,
    one_run_chapter,
    privacy_chapter,
)
from keras_secure.audit.chapters.ownership import (
    integrity_chapter,
    serving_chapter,
    watermark_chapter,
)
from keras_secure.audit.chapters.setting import data_chapter, environment_chapter, timings_chapter

__all__ = ["Chapter", "Table", "chapters", "model_names"]


def chapters(report) -> list[Chapter]:
    """Words every section that an audit has.

    Args:
        report: An `AuditReport`.

    Returns:
        The chapters in reading order; what was not measured has none.
    """
    writers = (
        models_chapter,
        robustness_chapter,
        examples_chapter,
        privacy_chapter,
        membership_chapter,
        one_run_chapter,
        watermark_chapter,
        integrity_chapter,
        serving_chapter,
        data_chapter,
        timings_chapter,
        environment_chapter,
    )
    return [chapter for chapter in (write(report) for write in writers) if chapter is not None]
