"""Security for Keras 3 models: private, robust and provably yours through `compile` and `fit`.

Importing the package loads neither Keras nor TensorFlow, so that files can be verified and scanned
before either touches them. As soon as Keras is there, before or after, every component is
registered with it, so that saved models load. Rooms are loaded when they are first used.
"""

import importlib
import pkgutil
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import wrapt

from keras_secure.findings import Finding

__version__ = "0.1.0"

__all__ = [
    "Finding",
    "SecureModel",
    "__version__",
    "attacks",
    "audit",
    "callbacks",
    "certification",
    "compression",
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
    "serving",
    "training",
    "watermark",
]
_WITH_COMPONENTS = (
    "attacks",
    "certification",
    "compression",
    "detection",
    "layers",
    "objectives",
    "optimizers",
    "privacy",
    "training",
    "watermark",
)

if TYPE_CHECKING:
    from keras_secure import (
        attacks,
        audit,
        callbacks,
        certification,
        compression,
        detection,
        errors,
        export,
        integrity,
        layers,
        leakage,
        objectives,
        optimizers,
        privacy,
        repair,
        serving,
        training,
        watermark,
    )
    from keras_secure.training import SecureModel


def __getattr__(name):
    if name == "SecureModel":
        return importlib.import_module("keras_secure.training").SecureModel
    if name in __all__:
        return importlib.import_module(f"keras_secure.{name}")
    raise AttributeError(
        f"Package keras_secure has no public name {name!r}; it has {', '.join(__all__)}."
    )


def __dir__():
    return sorted(__all__)


_MODULES = [module.name for module in pkgutil.iter_modules(__path__, "keras_secure.")]


def _register_components(loaded: ModuleType) -> None:
    """Loads every room with components as soon as Keras and `loaded` are there.

    While a module of ours is half loaded (it may be the one that imports Keras), others could not
    import from it; its own end calls this again.
    """
    present = [sys.modules.get(name) for name in ("keras", *_MODULES)]
    if present[0] is None or any(_is_loading(module) for module in present if module != loaded):
        return
    for room in _WITH_COMPONENTS:
        importlib.import_module(f"keras_secure.{room}")


def _is_loading(module: ModuleType | None) -> bool:
    return getattr(getattr(module, "__spec__", None), "_initializing", False)


for _name in ("keras", *_MODULES):
    wrapt.register_post_import_hook(_register_components, _name)
