"""Models built by hand, and inspections without the process that a scan puts around them."""

import json
import zipfile

import h5py
import numpy as np
import pytest

from keras_secure.integrity.scan.collector import Collector
from keras_secure.integrity.scan.inspection import inspect_path
from keras_secure.integrity.scan.limits import ScanLimits

METADATA = {"keras_version": "3.15.1", "date_saved": "2026-11-21@12:00:00"}


@pytest.fixture
def inspect():
    """Inspects a path in this process: `inspect(path)` returns its findings."""

    def run(path, allow=(), **limits):
        found = []
        collector = Collector(found.append, ScanLimits(**limits), allow)
        inspect_path(path, collector, lambda name: None)
        collector.close()
        return found

    return run


@pytest.fixture
def failing(inspect):
    """Identifiers of the findings that make a scan fail."""

    def run(path, **arguments):
        return {
            finding.id
            for finding in inspect(path, **arguments)
            if finding.severity in ("medium", "high", "critical")
        }

    return run


@pytest.fixture
def dense():
    """The configuration of a Dense layer as Keras 3 writes it."""
    return {
        "module": "keras.layers",
        "class_name": "Dense",
        "config": {
            "name": "dense",
            "units": 4,
            "activation": "relu",
            "kernel_initializer": {
                "module": "keras.initializers",
                "class_name": "GlorotUniform",
                "config": {"seed": None},
                "registered_name": None,
            },
        },
        "registered_name": None,
        "build_config": {"input_shape": [None, 3]},
    }


@pytest.fixture
def sequential(dense):
    """`sequential(*layers)`: the configuration of a model with a Dense layer and these."""

    def build(*layers):
        return {
            "module": "keras",
            "class_name": "Sequential",
            "config": {"name": "sequential", "layers": [dense, *layers]},
            "registered_name": None,
            "compile_config": {"loss": "mse", "optimizer": "adam"},
        }

    return build


@pytest.fixture
def weights_file(tmp_path):
    """`weights_file()`: an HDF5 file like Keras's; `change(file)` may add to it."""

    def build(change=None, name="plain.weights.h5", **options):
        path = tmp_path / name
        with h5py.File(path, "w", **options) as file:
            group = file.create_group("layers/dense/vars")
            group["0"] = np.ones((3, 4), "float32")
            group["1"] = np.zeros(4, "float32")
            if change is not None:
                change(file)
        return path

    return build


@pytest.fixture
def keras_file(tmp_path, weights_file, sequential):
    """`keras_file(config)`: a `.keras` archive; `change(archive)` may add to it."""
    weights = weights_file(name="model.weights.h5").read_bytes()

    def build(config=None, change=None, name="model.keras", replaced=None, **options):
        path = tmp_path / name
        entries = {
            "metadata.json": json.dumps(METADATA).encode(),
            "config.json": json.dumps(sequential() if config is None else config).encode(),
            "model.weights.h5": weights,
        }
        with zipfile.ZipFile(path, "w", **options) as archive:
            for entry, data in (entries | (replaced or {})).items():
                if data is not None:
                    archive.writestr(entry, data)
            if change is not None:
                change(archive)
        return path

    return build
