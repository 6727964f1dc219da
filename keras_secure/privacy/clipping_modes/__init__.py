"""How the gradients of single examples are brought within the bound: one file per mode."""

from keras_secure.privacy.clipping_modes.adaptive import AdaptiveClipping
from keras_secure.privacy.clipping_modes.automatic import AutomaticClipping
from keras_secure.privacy.clipping_modes.flat import FlatClipping
from keras_secure.privacy.clipping_modes.mode import ClippingMode
from keras_secure.privacy.clipping_modes.per_layer import PerLayerClipping

__all__ = [
    "AdaptiveClipping",
    "AutomaticClipping",
    "ClippingMode",
    "FlatClipping",
    "PerLayerClipping",
]
