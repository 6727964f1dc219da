"""Which classes a configuration may name: those of Keras 3, of Keras 2, and of this library."""

from typing import Any

from keras_secure.integrity.scan.keras_names import KERAS_CLASSES, LEGACY_CLASSES
from keras_secure.integrity.scan.own_names import OWN_CLASSES


def is_ours(module: str | None, registered: Any, name: str) -> bool:
    """Whether it is a component of this library, under its own name and in its own module."""
    short = name.removeprefix("keras_secure>")
    if short not in OWN_CLASSES:
        return False
    if module is None:
        return name != short and registered is None
    return module.startswith("keras_secure.") and registered == f"keras_secure>{short}"


def is_builtin(module: str | None, name: str, registered: Any) -> bool:
    """Whether it is a class of Keras 3, in the module that Keras writes beside it."""
    if name not in KERAS_CLASSES.get(module or "", ()):
        return False
    return registered in (None, name)


def is_keras_2(module: str | None, name: str, registered: Any) -> bool:
    """Whether it is what Keras 2 and tf_keras write for a class of their own."""
    if registered not in (None, name):
        return False
    if module in _KERAS_2_MODULES:
        return name in _KERAS_2_MODULES[module]
    package, _, short = name.partition(">")
    # Their optimizers are registered as if they were the user's.
    return module is None and package == "Custom" and (short in KERAS_CLASSES["keras.optimizers"])


_KERAS_2_MODULES = {
    f"{root}.engine.functional": ("Functional",)
    for root in ("keras", "keras.src", "tf_keras", "tf_keras.src")
}


def is_legacy(name: str) -> bool:
    """Whether an HDF5 file may name it without a module."""
    return name in LEGACY_CLASSES or any(name in names for names in KERAS_CLASSES.values())
