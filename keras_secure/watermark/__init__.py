"""Ownership marks: keyed messages embedded in weights by ordinary training, and their proof."""

from keras_secure.watermark.attach import attach, detach
from keras_secure.watermark.spread_spectrum import SpreadSpectrum
from keras_secure.watermark.uchida import Uchida
from keras_secure.watermark.verify import WatermarkReport, verify

__all__ = ["SpreadSpectrum", "Uchida", "WatermarkReport", "attach", "detach", "verify"]
