import json
import os

import pytest

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity import build_manifest, read_manifest, write_manifest


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "a.txt").write_bytes(b"abc")
    (tmp_path / "sub" / "empty").write_bytes(b"")
    (tmp_path / "sub" / "deep" / "größe").write_bytes(bytes(range(256)) * 9000)
    return tmp_path


def test_records_digest_and_size_of_every_file(folder):
    manifest = build_manifest(folder)
    assert list(sorted(manifest["files"])) == ["a.txt", "sub/deep/größe", "sub/empty"]
    # The published SHA-256 of "abc" (FIPS 180-2, appendix B.1) and of the empty string.
    assert manifest["files"]["a.txt"] == {
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "size": 3,
    }
    assert manifest["files"]["sub/empty"]["sha256"].startswith("e3b0c44298fc1c149afbf4c8996fb924")
    assert manifest["files"]["sub/deep/größe"]["size"] == 256 * 9000


def test_write_and_read_round_trip_and_do_not_describe_themselves(folder):
    path = write_manifest(folder)
    first = path.read_bytes()
    assert read_manifest(folder) == read_manifest(path) == read_manifest(first)
    assert write_manifest(folder).read_bytes() == first
    assert first.isascii()
    assert sorted(os.listdir(folder)) == ["a.txt", "manifest.json", "sub"]


def test_a_nested_manifest_is_a_file_like_any_other(folder):
    (folder / "sub" / "manifest.json").write_bytes(b"{}")
    assert "sub/manifest.json" in build_manifest(folder)["files"]


@pytest.mark.parametrize("kind", ["link", "broken link", "linked folder", "pipe"])
def test_links_and_special_files_are_refused(folder, kind):
    odd = folder / "sub" / "odd"
    if kind == "pipe":
        os.mkfifo(odd)
    else:
        odd.symlink_to({"link": folder / "a.txt", "linked folder": folder}.get(kind, "nowhere"))
    with pytest.raises(IntegrityError, match="sub/odd"):
        build_manifest(folder)


@pytest.mark.parametrize("name", ["back\\slash", "new\nline", "C:drive", b"\xff\xfe"])
def test_names_that_other_systems_read_differently_are_refused(tmp_path, name):
    (tmp_path / os.fsdecode(name)).write_bytes(b"")
    with pytest.raises(IntegrityError, match="Rename it"):
        build_manifest(tmp_path)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        build_manifest(tmp_path / "nothing")
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(tmp_path / "nothing")


DIGEST = "0" * 64


def written(files=None, **changes):
    manifest = {"files": {} if files is None else files, "format": "keras_secure.manifest"}
    manifest = {**manifest, "version": 1, **changes}
    return json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "path",
    [
        "../a",
        "a/../../b",
        "/etc/passwd",
        "",
        ".",
        "a//b",
        "a/./b",
        "a/",
        "C:/a",
        "a\\..\\b",
        "a\0b",
    ],
)
def test_paths_that_escape_are_refused(path):
    with pytest.raises(IntegrityError, match=r"path .* is not allowed"):
        read_manifest(written({path: {"sha256": DIGEST, "size": 0}}))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"files":{},"files":{},"format":"keras_secure.manifest","version":1}', "twice"),
        (b'{"files":{"a":NaN},"format":"keras_secure.manifest","version":1}', "not valid JSON"),
        (b"[]", "exactly the fields"),
        (written(more=1), "exactly the fields"),
        (written(version=2), "version 2"),
        (written(format="other"), "format 'other'"),
        (written([]), "not a JSON object"),
        (written({"manifest.json": {"sha256": DIGEST, "size": 0}}), "no manifest can describe"),
        (written({"a": {"sha256": DIGEST.replace("0", "G"), "size": 0}}), "entry of 'a'"),
        (written({"a": {"sha256": DIGEST, "size": -1}}), "entry of 'a'"),
        (written({"a": {"sha256": DIGEST, "size": True}}), "entry of 'a'"),
        (written({"a": {"sha256": DIGEST, "size": 0, "x": 0}}), "entry of 'a'"),
        (written() + b"\n", "canonical"),
        (written().replace(b":", b": "), "canonical"),
    ],
)
def test_anything_but_the_canonical_form_is_refused(data, reason):
    assert read_manifest(written())["files"] == {}
    with pytest.raises(IntegrityError, match=reason):
        read_manifest(data)


def test_a_manifest_that_could_not_be_read_back_is_not_written(tmp_path):
    with pytest.raises(InputError, match="not allowed"):
        write_manifest(tmp_path, json.loads(written({"../a": {"sha256": DIGEST, "size": 0}})))
    assert not os.listdir(tmp_path)
