"""Digests of shards against plain hashlib, and files that are not what they should be."""

import hashlib
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity import hashing, shards


def truth(data, shard_size, algorithm="sha256"):
    """Digests of slices, one after the other."""
    starts = range(0, len(data), shard_size)
    return [
        hashlib.new(algorithm, data[start : start + shard_size]).hexdigest() for start in starts
    ]


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 37 * 2**20 + 5])
def test_digests_of_shards_are_those_of_slices(tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    (found,), whole = shards.digest_files_twice([tmp_path / "file"])
    assert [found] == shards.digest_files([tmp_path / "file"])
    assert found == (size, truth(data, shards.SHARD_SIZE))
    assert whole == [hashlib.sha256(data).hexdigest()]


@settings(max_examples=30, deadline=None)
@given(
    contents=st.lists(st.binary(max_size=200), max_size=6),
    shard_size=st.integers(1, 90),
    algorithm=st.sampled_from(["sha256", "blake2b"]),
)
def test_any_shard_size_and_algorithm(tmp_path_factory, contents, shard_size, algorithm):
    folder = tmp_path_factory.mktemp("shards")
    paths = [folder / str(number) for number in range(len(contents))]
    for path, data in zip(paths, contents, strict=True):
        path.write_bytes(data)
    found = shards.digest_files(paths, shard_size, algorithm)
    assert [file.digests for file in found] == [truth(d, shard_size, algorithm) for d in contents]
    assert [file.size for file in found] == [len(data) for data in contents]
    whole = shards.digest_files(paths, None, algorithm)
    assert [file.digests for file in whole] == [
        [hashlib.new(algorithm, data).hexdigest()] for data in contents
    ]


def test_many_files_on_several_threads_keep_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(hashing, "_num_cores", lambda: 4)
    contents = {f"f{number}": os.urandom(number * 700_001) for number in range(12)}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    found, whole = shards.digest_files_twice(tmp_path / name for name in contents)
    assert [file.digests for file in found] == [
        truth(data, shards.SHARD_SIZE) for data in contents.values()
    ]
    assert whole == [hashlib.sha256(data).hexdigest() for data in contents.values()]


@pytest.mark.parametrize("grows", [True, False])
def test_a_file_that_changes_its_length_is_refused(tmp_path, monkeypatch, grows):
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    monkeypatch.setattr(hashing, "_size_of", lambda name: 90 if grows else 110)
    with pytest.raises(IntegrityError, match="changed its length"):
        shards.digest_files([path])


def test_an_error_in_one_thread_ends_all(tmp_path, monkeypatch):
    monkeypatch.setattr(hashing, "_num_cores", lambda: 4)
    for number in range(8):
        (tmp_path / str(number)).write_bytes(bytes(2 * 2**20))
    size_of = hashing._size_of
    monkeypatch.setattr(hashing, "_size_of", lambda name: size_of(name) + name.endswith("3"))
    with pytest.raises(IntegrityError, match="changed its length"):
        shards.digest_files(tmp_path / str(number) for number in range(8))


def test_only_plain_files_are_hashed(tmp_path):
    (tmp_path / "file").write_bytes(b"a")
    os.symlink("file", tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "."):
        with pytest.raises(IntegrityError, match="plain file"):
            shards.digest_files([tmp_path / name])
    with pytest.raises(InputError, match="cannot be read"):
        shards.digest_files([tmp_path / "absent"])
    with pytest.raises(InputError, match="cannot be read"):
        shards.digest_files(["a\0b"])
    with pytest.raises(InputError, match="sha256 or blake2b"):
        shards.digest_files([tmp_path / "file"], algorithm="md5")


def test_neither_keras_nor_numpy_is_loaded():
    script = (
        "import sys, keras_secure.integrity.shards;"
        "print([name for name in ('keras', 'tensorflow', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
