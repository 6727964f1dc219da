import json

import h5py
import numpy as np
import pytest


def external_storage(file):
    file.create_dataset("x", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def virtual(file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (4,))
    file.create_virtual_dataset("x", layout)


def unknown_filter(file):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((4,))
    properties.set_filter(40_000, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((4,))
    h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space, properties)


def opaque(file):
    file["x"] = np.void(b"\x80\x04\x95" + bytes(20))


def named_type(file):
    file["x"] = np.dtype("f4")


def reference(file):
    file.create_dataset("x", data=np.array([file.ref], dtype=h5py.ref_dtype))


def region(file):
    part = file["layers/dense/vars/0"]
    file.create_dataset("x", data=np.array([part.regionref[0:1]], dtype=h5py.regionref_dtype))


def varying(file):
    file.create_dataset("x", (2,), h5py.vlen_dtype("f4"))[0] = [1, 2]


HARMFUL = {
    "external link": (
        lambda file: file.__setitem__("x", h5py.ExternalLink("/etc/other.h5", "/x")),
        "scan.hdf5.external_link",
    ),
    "soft link": (
        lambda file: file.__setitem__("x", h5py.SoftLink("/layers/dense/vars/0")),
        "scan.hdf5.soft_link",
    ),
    "dangling soft link": (
        lambda file: file.__setitem__("x", h5py.SoftLink("/nothing")),
        "scan.hdf5.soft_link",
    ),
    "hard link": (
        lambda file: file.__setitem__("x", file["layers/dense/vars/0"]),
        "scan.hdf5.hard_link",
    ),
    "cycle": (lambda file: file["layers"].__setitem__("up", file["/"]), "scan.hdf5.hard_link"),
    "external storage": (external_storage, "scan.hdf5.external_storage"),
    "virtual": (virtual, "scan.hdf5.virtual"),
    "filter": (unknown_filter, "scan.hdf5.filter"),
    "opaque": (opaque, "scan.hdf5.type"),
    "named type": (named_type, "scan.hdf5.type"),
    "compound": (
        lambda file: file.__setitem__("x", np.zeros(3, [("a", "f4"), ("b", "i4")])),
        "scan.hdf5.type",
    ),
    "text": (lambda file: file.__setitem__("x", "text"), "scan.hdf5.type"),
    "varying length": (varying, "scan.hdf5.type"),
    "reference": (reference, "scan.hdf5.reference"),
    "region": (region, "scan.hdf5.reference"),
    "reference in an attribute": (
        lambda file: file.attrs.__setitem__("x", file.ref),
        "scan.hdf5.reference",
    ),
    "declared shape": (
        lambda file: file.create_dataset("x", (2**40,), "f4"),
        "scan.hdf5.declared_size",
    ),
    "declared chunks": (
        lambda file: file.create_dataset("x", (2**20, 2**20), "f4", chunks=(64, 64)),
        "scan.hdf5.declared_size",
    ),
    "compressed bomb": (
        lambda file: file.create_dataset("x", data=np.zeros(2**22, "f4"), compression="gzip"),
        "scan.hdf5.bomb",
    ),
    "never written bomb": (
        lambda file: file.create_dataset("x", (2**40,), "f4", chunks=(64,), compression="gzip"),
        "scan.hdf5.bomb",
    ),
    "not a number": (
        lambda file: file.__setitem__("x", np.array([1, np.nan], "f4")),
        "scan.weights.nonfinite",
    ),
    "infinity in chunks": (
        lambda file: file.create_dataset(
            "x", data=np.array([1, np.inf] * 500, "f8"), chunks=(10,), compression="gzip"
        ),
        "scan.weights.nonfinite",
    ),
    "half not a number": (
        lambda file: file.__setitem__("x", np.array([1, np.nan], "f2")),
        "scan.weights.nonfinite",
    ),
    "code in an attribute": (
        lambda file: file.attrs.__setitem__("x", "__import__('os').system('id')"),
        "scan.keras.code",
    ),
}


@pytest.mark.parametrize("case", HARMFUL)
def test_what_is_harmful_is_named(case, weights_file, failing):
    change, expected = HARMFUL[case]
    assert expected in failing(weights_file(change), unfolded_freely=2**20)


def brain(file):
    values = file.create_dataset("x", data=np.zeros(4, "V2"))
    values.attrs["dtype"] = "bfloat16"


HARMLESS = {
    "attributes": lambda file: file.attrs.update(
        {"keras_version": "3.15.1", "layer_names": np.array([b"dense"]), "empty": np.zeros(0, "S1")}
    ),
    "scalar": lambda file: file.__setitem__("x", np.float32(3)),
    "integers": lambda file: file.__setitem__("x", np.arange(5)),
    "booleans": lambda file: file.__setitem__("x", np.array([True, False])),
    "complex numbers": lambda file: file.__setitem__("x", np.ones(3, "c8")),
    "no values": lambda file: file.__setitem__("x", np.zeros((0, 3), "f4")),
    "half precision": lambda file: file.__setitem__("x", np.ones(3, "f2")),
    "brain floats": brain,
    "zeros": lambda file: file.create_dataset("x", data=np.zeros(2**20), compression="gzip"),
    "compressed": lambda file: file.create_dataset(
        "x", data=np.random.default_rng(0).random(5000), compression="gzip", shuffle=True
    ),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_is_harmless_passes(case, weights_file, failing):
    assert failing(weights_file(HARMLESS[case])) == set()


def test_brain_floats_are_checked(weights_file, failing):
    def change(file):
        bits = np.array([0x3F80, 0x7FC0], "<u2")
        file.create_dataset("x", data=bits.view("V2")).attrs["dtype"] = "bfloat16"

    assert failing(weights_file(change)) == {"scan.weights.nonfinite"}


def test_nothing_stands_around_the_structure(weights_file, failing):
    assert "scan.hdf5.hidden" in failing(weights_file(userblock_size=512))
    path = weights_file()
    path.write_bytes(path.read_bytes() + b"behind")
    assert failing(path) == {"scan.hdf5.hidden"}


def test_what_is_damaged_is_malformed(weights_file, failing):
    path = weights_file()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "scan.hdf5.malformed" in failing(path)


def legacy(config, training=None):
    def change(file):
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.15.0"
        if training is not None:
            file.attrs["training_config"] = json.dumps(training)

    return change


def model(*layers):
    return {"class_name": "Sequential", "config": {"name": "sequential", "layers": list(layers)}}


def test_a_model_of_keras_2_is_read(weights_file, inspect, failing):
    plain = model(
        {"class_name": "Dense", "config": {"units": 4, "activation": "relu"}},
        {"class_name": "SyncBatchNormalization", "config": {"axis": [1]}},
    )
    path = weights_file(legacy(plain, {"loss": "mse"}), "model.h5")
    assert failing(path) == set()
    lam = model({"class_name": "Lambda", "config": {"function": ["4wEA", None, None]}})
    assert "scan.keras.lambda" in failing(weights_file(legacy(lam), "model.h5"))
    custom = model({"class_name": "Mine", "config": {}})
    assert "scan.keras.class" in failing(weights_file(legacy(custom), "model.h5"))
    foreign = {"loss": {"class_name": "function", "config": "system", "module": "os"}}
    assert "scan.keras.function" in failing(weights_file(legacy(plain, foreign), "model.h5"))


def test_links_are_not_followed(tmp_path, weights_file, failing):
    """A link to a pipe would wait forever for a writer."""
    import os

    os.mkfifo(tmp_path / "pipe")
    path = weights_file(
        lambda file: file.__setitem__("x", h5py.ExternalLink(str(tmp_path / "pipe"), "/x"))
    )
    assert failing(path) == {"scan.hdf5.external_link"}
