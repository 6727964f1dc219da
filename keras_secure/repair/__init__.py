"""Takes a weakness out of a model that has one, and shows before and after."""

from keras_secure.repair.backdoor_repair_report import BackdoorRepairReport, MeasuredShare
from keras_secure.repair.harden import harden
from keras_secure.repair.hardening_report import HardeningReport
from keras_secure.repair.retrain_without import retrain_without
from keras_secure.repair.unlearn_trigger import unlearn_trigger

__all__ = [
    "BackdoorRepairReport",
    "HardeningReport",
    "MeasuredShare",
    "harden",
    "retrain_without",
    "unlearn_trigger",
]
