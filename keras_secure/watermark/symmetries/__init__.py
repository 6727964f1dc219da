"""What can be exchanged or rescaled in a Keras model without changing what it computes."""

from keras_secure.watermark.symmetries.structure import Role, Step, Structure, Weight
from keras_secure.watermark.symmetries.units import MAGNITUDE, SIGN, Scale, Segment, Units
from keras_secure.watermark.symmetries.walk import structure_of

__all__ = [
    "MAGNITUDE",
    "SIGN",
    "Role",
    "Scale",
    "Segment",
    "Step",
    "Structure",
    "Units",
    "Weight",
    "structure_of",
]
