"""The watch of a server is made of what there is to compare with."""

import numpy as np
import pytest

from keras_secure.cli.serve_watch import make_monitor
from keras_secure.errors import InputError


def names(monitor):
    return [type(detector).__name__ for detector in monitor.detectors]


def test_detectors_follow_from_the_file(tmp_path):
    rng = np.random.default_rng(0)
    x, predictions = rng.uniform(size=(100, 4)), rng.dirichlet([1, 1], 100)
    np.savez(tmp_path / "x.npz", x=x)
    np.savez(tmp_path / "both.npz", x=x, predictions=predictions)
    assert names(make_monitor(None, (0, 1))) == ["NearDuplicates", "DistanceDistribution"]
    assert names(make_monitor(tmp_path / "x.npz", (0, 1)))[2:] == ["Coverage"]
    assert names(make_monitor(tmp_path / "both.npz", (0, 1)))[2:] == ["Coverage", "Drift"]


@pytest.mark.parametrize("content", [None, b"", b"PK not really", "no x", "objects"])
def test_files_that_cannot_be_used(tmp_path, content):
    path = tmp_path / "data.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "no x":
        np.savez(path, y=np.zeros(3))
    elif content == "objects":
        np.savez(path, x=np.array([{}], object))
    with pytest.raises(InputError, match="x="):
        make_monitor(path, (0, 1))
