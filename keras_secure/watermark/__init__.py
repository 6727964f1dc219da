"""Ownership marks: keyed messages embedded in weights by ordinary training, and their proof."""

from keras_secure.watermark.attach import attach, detach
from keras_secure.watermark.claim import commit, verify_claim
from keras_secure.watermark.commitment import Commitment
from keras_secure.watermark.embed import Embedded, embed
from keras_secure.watermark.report import Reading, WatermarkReport
from keras_secure.watermark.spread_spectrum import SpreadSpectrum
from keras_secure.watermark.uchida import Uchida
from keras_secure.watermark.verify import verify

__all__ = [
    "Commitment",
    "Embedded",
    "Reading",
    "SpreadSpectrum",
    "Uchida",
    "WatermarkReport",
    "attach",
    "commit",
    "detach",
    "embed",
    "verify",
    "verify_claim",
]
