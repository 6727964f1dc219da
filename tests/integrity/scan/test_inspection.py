import gzip
import io
import json
import os
import pickle
import tarfile
import zipfile
import zlib

import pytest


class Harm:
    def __reduce__(self):
        return os.system, ("true",)


def torch_file():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Harm()))
    return buffer.getvalue()


def tar_file():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("x"))
    return buffer.getvalue()


CALL = b"cos\nsystem\n(S'true'\ntR."

HARMFUL = {
    **{
        f"pickle {protocol}": (pickle.dumps(Harm(), protocol), "scan.file.pickle")
        for protocol in range(6)
    },
    "pickle of data": (pickle.dumps({"a": [1, 2, (3, 4)]}, 2), "scan.file.pickle"),
    "old pickle of data": (pickle.dumps({"a": [1, 2, (3, 4)]}, 0), "scan.file.pickle"),
    "pickle and more": (pickle.dumps(Harm(), 0) + b"\xff\xff", "scan.file.pickle"),
    "pickle that begins with a number": (b"\x80\x02I1\n0" + CALL, "scan.file.pickle"),
    "pickle without a protocol": (b"K\x000" + CALL, "scan.file.pickle"),
    "compressed pickle": (gzip.compress(pickle.dumps(Harm())), "scan.file.pickle"),
    "joblib": (zlib.compress(pickle.dumps(Harm())), "scan.file.pickle"),
    "torch": (torch_file(), "scan.file.pickle"),
    "program": (b"MZ" + bytes(100), "scan.file.executable"),
    "library": (b"\x7fELF" + bytes(100), "scan.file.executable"),
    "shell script": (b"#!/bin/sh\nid\n", "scan.file.script"),
    "Python": (b"import os\nos.system('id')\n", "scan.file.script"),
    "tar": (tar_file(), "scan.file.archive"),
    "gzip": (gzip.compress(b"words"), "scan.file.archive"),
    "random bytes": (bytes(range(256)), "scan.file.unknown"),
    "gguf": (b"GGUF" + bytes(100), "scan.file.unknown"),
    "other zip": (torch_file(), "scan.file.unknown"),
}


@pytest.mark.parametrize("case", HARMFUL)
@pytest.mark.parametrize("name", ["model.bin", "model.keras", "model.h5"])
def test_what_is_harmful_is_named_whatever_it_is_called(case, name, tmp_path, failing):
    data, expected = HARMFUL[case]
    (tmp_path / name).write_bytes(data)
    found = failing(tmp_path / name)
    assert expected in found
    assert ("scan.file.mismatch" in found) == (name != "model.bin")
    # In a folder, too, unless it is only of no known form.
    if expected != "scan.file.unknown":
        assert expected in failing(tmp_path)


def test_a_file_of_two_formats_is_named(keras_file, weights_file, tmp_path, failing):
    path = tmp_path / "both.h5"
    path.write_bytes(weights_file().read_bytes() + keras_file().read_bytes())
    assert {"scan.file.polyglot", "scan.archive.hidden", "scan.hdf5.hidden"} <= failing(path)
    nested = tmp_path / "other.h5"
    nested.write_bytes(keras_file().read_bytes())
    assert "scan.file.mismatch" in failing(nested)


def test_a_harmful_half_of_two_formats_is_seen(
    keras_file, weights_file, tmp_path, sequential, failing
):
    lam = {"module": "keras.layers", "class_name": "Lambda", "config": {}}
    path = tmp_path / "both.h5"
    path.write_bytes(weights_file().read_bytes() + keras_file(sequential(lam)).read_bytes())
    assert "scan.keras.lambda" in failing(path)


def test_links_and_pipes_are_named_and_left_alone(keras_file, tmp_path, failing):
    folder = tmp_path / "bundle"
    folder.mkdir()
    keras_file().rename(folder / "model.keras")
    assert failing(folder) == set()
    (folder / "link").symlink_to("/etc/passwd")
    assert failing(folder) == {"scan.file.symlink"}
    (folder / "link").unlink()
    (folder / "loop").symlink_to(folder)
    assert failing(folder) == {"scan.file.symlink"}
    (folder / "loop").unlink()
    os.mkfifo(folder / "pipe")
    assert failing(folder) == {"scan.file.special"}


def test_names_that_mislead_are_named(keras_file, tmp_path, failing):
    folder = tmp_path / "bundle"
    folder.mkdir()
    keras_file().rename(folder / "model.keras")
    for name in ("a\nb", "\u202egnp.txt", os.fsdecode(b"\xff")):
        (folder / name).write_text("words")
        assert failing(folder) == {"scan.file.name"}
        (folder / name).unlink()
    (folder / "MODEL.keras").write_bytes((folder / "model.keras").read_bytes())
    assert failing(folder) == {"scan.file.name"}


def test_cards_and_pictures_beside_a_model_are_no_finding(keras_file, tmp_path, failing):
    folder = tmp_path / "bundle"
    (folder / "deep").mkdir(parents=True)
    keras_file().rename(folder / "deep/model.keras")
    (folder / "README.md").write_text("# A model\n\n```python\nimport keras\n```\n")
    (folder / "card.json").write_text('{"name": "x"}')
    (folder / "plot.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    (folder / "model.sig").write_text("{}")
    (folder / "empty").touch()
    assert failing(folder) == set()


def test_a_vocabulary_may_begin_with_a_bracket(keras_file, failing):
    def change(archive):
        archive.writestr("assets/words.txt", "[UNK]\nthe\n")

    assert failing(keras_file(change=change)) == set()


def test_a_folder_without_a_model_is_not_vouched_for(tmp_path, failing):
    (tmp_path / "words.txt").write_text("a")
    assert failing(tmp_path) == {"scan.file.unknown"}


def test_an_unpacked_model_is_read(keras_file, tmp_path, sequential, failing):
    lam = {"module": "keras.layers", "class_name": "Lambda", "config": {}}
    for layers, expected in (((), set()), ((lam,), {"scan.keras.lambda"})):
        folder = tmp_path / f"unpacked{len(layers)}"
        with zipfile.ZipFile(keras_file(sequential(*layers))) as archive:
            archive.extractall(folder)
        assert failing(folder) == expected


def test_too_many_files_are_not_read(keras_file, tmp_path, failing):
    keras_file()
    for number in range(12):
        (tmp_path / f"{number}.txt").touch()
    assert failing(tmp_path, files=10) >= {"scan.limits.files"}


def test_the_first_finding_of_a_kind_is_never_hidden(keras_file, sequential, inspect):
    custom = {"module": "a.b", "class_name": "C", "config": {}}
    lam = {"module": "keras.layers", "class_name": "Lambda", "config": {}}
    found = inspect(keras_file(sequential(*[custom] * 5000, lam)), findings=7)
    assert [f.id for f in found].count("scan.keras.class") == 7
    assert "scan.keras.lambda" in [f.id for f in found]
    assert found[-1].evidence["count"] == 5000 - 7


def unzipped(tmp_path, keras_file, config):
    """A model as a folder, which Keras loads too."""
    folder = tmp_path / "unzipped"
    with zipfile.ZipFile(keras_file(config)) as archive:
        archive.extractall(folder)
    return folder


def test_a_model_in_a_folder_is_read_as_a_whole(tmp_path, keras_file, sequential, dense, failing):
    folder = unzipped(tmp_path, keras_file, sequential())
    assert failing(folder) == set()
    config = folder / "config.json"
    whole = config.read_bytes()
    config.write_bytes(b" " * 2**20 + whole)
    assert failing(folder) == set()
    assert failing(folder, document=2**19) == {"scan.json.size"}
    # Without a mark of its encoding, too.
    config.write_bytes(whole.decode().replace("Dense", "Lambda").encode("utf-16-le"))
    assert "scan.keras.lambda" in failing(folder)
    config.write_text(json.dumps(sequential(dense | {"config": {"units": 10**8}})))
    assert failing(folder) == {"scan.keras.budget"}


def test_a_configuration_deep_in_a_document_is_read(tmp_path, keras_file, sequential, failing):
    folder = unzipped(tmp_path, keras_file, sequential())
    held = {"models": [{"name": "a"}, {"architecture": {"class_name": "Lambda", "config": {}}}]}
    (folder / "models.json").write_text(json.dumps(held))
    assert failing(folder) == {"scan.keras.lambda"}


@pytest.mark.parametrize("name", ["variables.keras", "variables.index.keras"])
def test_only_values_of_a_saved_model_are_taken_for_such(name, tmp_path, keras_file, failing):
    lam = {"class_name": "Lambda", "config": {}}
    (tmp_path / "model/variables").mkdir(parents=True)
    keras_file(lam).rename(tmp_path / "model/variables" / name)
    (tmp_path / "model/saved_model.pb").write_bytes(b"")
    assert "scan.keras.lambda" in failing(tmp_path / "model")


def test_sharded_weights_are_harmless(tmp_path, failing):
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(300), keras.layers.Dense(3)])
    (tmp_path / "model").mkdir()
    model.save_weights(tmp_path / "model/model.weights.json", max_shard_size=8e-6)
    assert len(list((tmp_path / "model").glob("*.h5"))) > 1
    assert failing(tmp_path / "model") == set()
