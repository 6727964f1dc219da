"""`keras-secure version`."""

import platform
from importlib import metadata

import keras_secure

_PACKAGES = ("tensorflow", "keras", "dp-accounting", "numpy")


def add_arguments(parser):
    """Adds nothing: the subcommand has no options."""


def main(options):
    """Prints the versions and returns 0."""
    print(f"keras-secure {keras_secure.__version__}")
    print(f"python {platform.python_version()}")
    for package in _PACKAGES:
        print(f"{package} {metadata.version(package)}")
    return 0
