"""Hardened models to hand out: guards in the graph, a model card, a signature over every byte."""

from keras_secure.export.bundle import Bundle, open_bundle
from keras_secure.export.difference import BundleDifference, diff
from keras_secure.export.facts import Dataset, Facts, data_digest
from keras_secure.export.harden import export_hardened
from keras_secure.export.inspection import BundleSummary, inspect
from keras_secure.export.legacy import from_tf_keras
from keras_secure.export.lora import merge_lora
from keras_secure.export.smoothing import Smoothing
from keras_secure.export.status import Status

__all__ = [
    "Bundle",
    "BundleDifference",
    "BundleSummary",
    "Dataset",
    "Facts",
    "Smoothing",
    "Status",
    "data_digest",
    "diff",
    "export_hardened",
    "from_tf_keras",
    "inspect",
    "merge_lora",
    "open_bundle",
]
