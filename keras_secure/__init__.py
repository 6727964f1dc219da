"""Security for Keras 3 models: private, robust and provably yours through `compile` and `fit`.

The rooms are loaded when they are first used, so importing the package costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_ROOMS = (
    "attacks",
    "audit",
    "callbacks",
    "errors",
    "export",
    "integrity",
    "layers",
    "objectives",
    "optimizers",
    "privacy",
    "training",
    "watermark",
)
_NAMES = {
    "Finding": "keras_secure.findings",
    "SecureModel": "keras_secure.training",
}

__all__ = [  # noqa: PLE0604
    "Finding",
    "SecureModel",
    "__version__",
    *_ROOMS,
]

if TYPE_CHECKING:
    from keras_secure import (
        attacks,
        audit,
        callbacks,
        errors,
        export,
        integrity,
        layers,
        objectives,
        optimizers,
        privacy,
        training,
        watermark,
    )
    from keras_secure.findings import Finding
    from keras_secure.training import SecureModel


def __getattr__(name):
    if name in _ROOMS:
        return importlib.import_module(f"keras_secure.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(
        f"Package keras_secure has no public name {name!r}; it has {', '.join(__all__)}."
    )


def __dir__():
    return sorted(__all__)
