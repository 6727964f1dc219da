"""Hardened models to hand out: guards in the graph, a model card, a signature over every byte."""

from keras_secure.export.bundle import Bundle, open_bundle
from keras_secure.export.harden import export_hardened

__all__ = ["Bundle", "export_hardened", "open_bundle"]
