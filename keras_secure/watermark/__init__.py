"""Ownership marks: keyed messages embedded in weights by ordinary training, and their proof."""

from keras_secure.watermark.alignment import Alignment, align
from keras_secure.watermark.alignment_report import AlignmentReport, MatchedUnits
from keras_secure.watermark.attach import attach, detach
from keras_secure.watermark.claim import commit, verify_claim
from keras_secure.watermark.commitment import Commitment
from keras_secure.watermark.embed import Embedded, embed
from keras_secure.watermark.embed_triggers import EmbeddingReport, embed_triggers
from keras_secure.watermark.empirical_null import EmpiricalNull, empirical_null
from keras_secure.watermark.report import Reading, WatermarkReport
from keras_secure.watermark.spread_spectrum import SpreadSpectrum
from keras_secure.watermark.trigger_report import TriggerReport
from keras_secure.watermark.trigger_set import TriggerSet
from keras_secure.watermark.uchida import Uchida
from keras_secure.watermark.verify import verify
from keras_secure.watermark.verify_triggers import verify_triggers

__all__ = [
    "Alignment",
    "AlignmentReport",
    "Commitment",
    "Embedded",
    "EmbeddingReport",
    "EmpiricalNull",
    "MatchedUnits",
    "Reading",
    "SpreadSpectrum",
    "TriggerReport",
    "TriggerSet",
    "Uchida",
    "WatermarkReport",
    "align",
    "attach",
    "commit",
    "detach",
    "embed",
    "embed_triggers",
    "empirical_null",
    "verify",
    "verify_claim",
    "verify_triggers",
]
