"""Hardened models to hand out: guards in the graph, a model card, a signature over every byte."""

from keras_secure.export.bundle import Bundle, open_bundle
from keras_secure.export.harden import export_hardened
from keras_secure.export.smoothing import Smoothing
from keras_secure.export.status import Status

__all__ = ["Bundle", "Smoothing", "Status", "export_hardened", "open_bundle"]
