"""Security for Keras 3 models: private, robust and provably yours through `compile` and `fit`.

Importing the package registers its components with Keras, so that saved models load. Rooms without
components, and every heavy dependency, are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING

from keras_secure import (
    attacks,
    certification,
    detection,
    layers,
    objectives,
    optimizers,
    privacy,
    training,
    watermark,
)
from keras_secure.findings import Finding
from keras_secure.training import SecureModel

__version__ = "0.1.0"

__all__ = [
    "Finding",
    "SecureModel",
    "__version__",
    "attacks",
    "audit",
    "callbacks",
    "certification",
    "detection",
    "errors",
    "export",
    "integrity",
    "layers",
    "leakage",
    "objectives",
    "optimizers",
    "privacy",
    "repair",
    "training",
    "watermark",
]
_LAZY = ("audit", "callbacks", "errors", "export", "integrity", "leakage", "repair")

if TYPE_CHECKING:
    from keras_secure import audit, callbacks, errors, export, integrity, leakage, repair


def __getattr__(name):
    if name in _LAZY:
        return importlib.import_module(f"keras_secure.{name}")
    raise AttributeError(
        f"Package keras_secure has no public name {name!r}; it has {', '.join(__all__)}."
    )


def __dir__():
    return sorted(__all__)
