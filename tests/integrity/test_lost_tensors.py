"""Damaged byte ranges are told by the names of the tensors that they hit."""

import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_secure.integrity.damage import DamagedFile
from keras_secure.integrity.tensor_places import LostTensors, lost_tensors
from keras_secure.integrity.tensor_places.intact_bytes import DamagedBytesError, IntactBytes
from keras_secure.integrity.tensor_places.lost import index_of

MARKS = {"a": 1.25, "b": -7.5, "c": 1e10}


def tensor(name):
    return np.full(4096, MARKS[name], "float32")


def damage_of(path, ranges, kind="changed"):
    return DamagedFile(path.name, kind, path.stat().st_size, tuple(ranges))


def place_of(path, name):
    """Where a tensor's bytes lie, by searching for them."""
    data, wanted = path.read_bytes(), tensor(name).tobytes()
    start = data.find(wanted)
    assert start >= 0
    assert data.find(wanted, start + 1) < 0
    return start, start + len(wanted)


def is_covered(name, lost):
    """Whether a tensor, its group or its archive is among the lost."""
    return any(
        name == other or name.startswith((f"{other.rstrip('/')}/", f"{other}:")) for other in lost
    )


def overwrite(path, start, end):
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * (end - start))


def write_h5(path):
    with h5py.File(path, "w") as file:
        for name in MARKS:
            file.create_dataset(f"layers/{name}/vars/0", data=tensor(name))


def write_keras(path):
    write_h5(path.with_suffix(".h5"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}" * 50)
        archive.write(path.with_suffix(".h5"), "model.weights.h5")


def write_npz(path):
    np.savez(path, **{name: tensor(name) for name in MARKS})


NAMES = {
    "m.weights.h5": (write_h5, "layers/{}/vars/0"),
    "m.keras": (write_keras, "model.weights.h5:layers/{}/vars/0"),
    "m.npz": (write_npz, "{}"),
}


@pytest.mark.parametrize("file", NAMES)
@pytest.mark.parametrize("hit", [["a"], ["b"], ["a", "c"]])
def test_tensors_in_damaged_ranges_are_named_and_no_others(tmp_path, file, hit):
    path, (write, pattern) = tmp_path / file, NAMES[file]
    write(path)
    ranges = [(place_of(path, name)[0] + 5, place_of(path, name)[0] + 9) for name in hit]
    for start, end in ranges:
        overwrite(path, start, end)
    lost = lost_tensors(path, damage_of(path, ranges))
    assert lost == LostTensors(file, tuple(pattern.format(name) for name in hit), True)
    assert all(name in lost.describe() for name in lost.tensors)


@pytest.mark.parametrize("file", NAMES)
def test_damage_between_tensors_loses_none(tmp_path, file):
    path = tmp_path / file
    NAMES[file][0](path)
    end = place_of(path, "a")[1]
    lost = lost_tensors(path, damage_of(path, []))
    assert lost.tensors == ()
    assert lost.all_known
    edge = lost_tensors(path, damage_of(path, [(end - 1, end)]))
    assert len(edge.tensors) == 1


def test_a_damaged_head_loses_the_whole_of_an_hdf5_file(tmp_path):
    path = tmp_path / "m.h5"
    write_h5(path)
    overwrite(path, 0, 64)
    lost = lost_tensors(path, damage_of(path, [(0, 64)]))
    assert lost == LostTensors("m.h5", (), False)
    assert "as a whole" in lost.describe()


def test_an_archive_without_its_directory_is_read_by_its_entries(tmp_path):
    path = tmp_path / "m.npz"
    write_npz(path)
    size = path.stat().st_size
    data = path.read_bytes()
    path.write_bytes(data[: data.rfind(b"c.npy", 0, size - 200) + 100])
    cut = path.stat().st_size
    file = DamagedFile("m.npz", "truncated", size, ((cut, size),))
    assert lost_tensors(path, file) == LostTensors("m.npz", ("c",), False)


def test_chunked_and_small_datasets(tmp_path):
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("chunked", data=tensor("a"), chunks=(1024,))
        file.create_dataset("empty", shape=(0,), dtype="float32")
        file.create_dataset("whole", data=tensor("b"))
        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "x")
        file["again"] = h5py.SoftLink("/whole")
        place = file["chunked"].id.get_chunk_info(3).byte_offset
    assert lost_tensors(path, damage_of(path, [(place, place + 1)])).tensors == ("chunked",)


def test_variables_of_a_saved_model(tmp_path):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(64), keras.layers.Dense(32)])
    model.export(tmp_path / "saved", verbose=False)
    name = "variables/variables.data-00000-of-00001"
    data, index = tmp_path / "saved" / name, tmp_path / "saved" / index_of(name)
    kernel = np.asarray(model.layers[1].kernel).tobytes()
    start = data.read_bytes().find(kernel)
    assert start >= 0
    file = DamagedFile(name, "changed", data.stat().st_size, ((start, start + 4),))
    (lost,) = lost_tensors(data, file, index).tensors
    folder, _, number = lost.partition("/")
    assert folder == "variables"
    assert model.variables[int(number)] is model.layers[1].kernel
    assert lost_tensors(data, file, None) == LostTensors(name, (), False)
    index.write_bytes(index.read_bytes()[:-9])
    assert lost_tensors(data, file, index) == LostTensors(name, (), False)


def test_damaged_bytes_are_never_read(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    with IntactBytes(path, [(40, 50)], 10, 80) as stream:
        assert stream.read(30) == bytes(range(10, 40))
        with pytest.raises(DamagedBytesError):
            stream.read(1)
        stream.seek(40)
        assert stream.read() == bytes(range(50, 90))
        assert stream.read() == b""
        with stream.part(45, 10) as part:
            assert part.read() == bytes(range(55, 65))


@pytest.mark.parametrize("file", NAMES)
def test_whatever_range_is_damaged_the_answer_comes_and_holds(tmp_path, file):
    """Every tensor that a range hits is named, or the file counts as lost."""
    path, (write, pattern) = tmp_path / file, NAMES[file]
    write(path)
    places = {name: place_of(path, name) for name in MARKS}
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(40):
        start = int(generator.integers(0, len(whole) - 1))
        end = int(min(start + generator.integers(1, 9000), len(whole)))
        path.write_bytes(whole)
        overwrite(path, start, end)
        lost = lost_tensors(path, damage_of(path, [(start, end)]))
        hit = [
            pattern.format(name)
            for name, (first, stop) in places.items()
            if first < end and start < stop
        ]
        if lost.all_known:
            assert [name for name in hit if not is_covered(name, lost.tensors)] == []
