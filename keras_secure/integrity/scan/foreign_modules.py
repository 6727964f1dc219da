"""Modules that a configuration names for what they do, not for a layer that they hold."""

import sys
from typing import Any


def may_import(module: Any, name: str) -> bool:
    """Whether looking the object up could end in a module that no layer comes from."""
    return isinstance(module, str) and bool(module) and reaches_out(module, name)


def reaches_out(module: str, name: str) -> bool:
    """Whether naming this module can be no mistake: no package of layers has such a name."""
    root = module.split(".")[0]
    if root in ("keras", "tf_keras", "tensorflow"):
        # A class that is missing from our list is one thing, a function that acts another.
        return name in _ACTING or not name[:1].isupper() or root != "keras"
    return root in sys.stdlib_module_names or root in _REACHING


_ACTING = frozenset({"KerasFileEditor", "CustomObjectScope", "ExportArchive", "Progbar", "Config"})
_REACHING = frozenset(
    [
        "IPython",
        "PIL",
        "aiohttp",
        "cloudpickle",
        "cv2",
        "dask",
        "dill",
        "fabric",
        "flask",
        "git",
        "h5py",
        "httpx",
        "jax",
        "joblib",
        "numba",
        "numpy",
        "nt",
        "pandas",
        "paramiko",
        "pip",
        "pkg_resources",
        "posix",
        "psutil",
        "pty",
        "pywin32",
        "requests",
        "scipy",
        "setuptools",
        "sklearn",
        "torch",
        "torchvision",
        "urllib3",
        "wget",
        "win32api",
        "yaml",
    ]
)
