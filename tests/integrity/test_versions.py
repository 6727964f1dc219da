"""A store of versions: what is in use verifies, or the last one that does comes back."""

import os
from pathlib import Path

import pytest

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity import current, generate_key_pair, publish, rollback, sign, verify
from keras_secure.integrity import versions as module


@pytest.fixture(scope="module")
def keys():
    return generate_key_pair()


def release(folder, private_key, serial, text=None, **options):
    """A signed folder, as it leaves training."""
    model = folder / f"release{serial}" / "model"
    (model / "assets").mkdir(parents=True)
    (model / "weights").write_text(text or f"weights {serial}")
    sign(model, private_key, serial=serial, created=f"2026-01-0{serial}", **options)
    return model


@pytest.fixture
def store(tmp_path, keys):
    """Three versions, the last in use."""
    for serial in (1, 2, 3):
        publish(tmp_path / "store", release(tmp_path, keys[0], serial), keys[1])
    return tmp_path / "store"


def weights(store):
    return (current(store) / "weights").read_text()


def damage(store, *numbers):
    for number in numbers:
        with Path(store, "versions", f"{number:06}", "model", "weights").open("a") as file:
            file.write("!")


def test_what_is_published_is_in_use(store, keys):
    assert weights(store) == "weights 3"
    assert verify(current(store), keys[1]).ok
    assert sorted(os.listdir(store / "versions")) == ["000001", "000002", "000003"]


def test_what_does_not_verify_is_not_published(store, tmp_path, keys):
    model = release(tmp_path, keys[0], 4)
    (model / "weights").write_text("tampered")
    with pytest.raises(IntegrityError, match="weights"):
        publish(store, model, keys[1])
    with pytest.raises(IntegrityError, match="not trusted"):
        publish(store, release(tmp_path, keys[0], 5), generate_key_pair()[1])
    assert weights(store) == "weights 3"
    assert len(os.listdir(store / "versions")) == 3


def test_a_copy_that_went_wrong_is_not_published(store, tmp_path, keys, monkeypatch):
    copy = module._copy

    def lossy(source, folder):
        copy(source, folder)
        (folder / source.name / "weights").write_text("lost")

    monkeypatch.setattr(module, "_copy", lossy)
    with pytest.raises(IntegrityError):
        publish(store, release(tmp_path, keys[0], 4), keys[1])
    assert weights(store) == "weights 3"
    assert len(os.listdir(store / "versions")) == 3


def test_a_version_that_verifies_stays(store, keys):
    report = rollback(store, keys[1])
    assert not report.changed
    assert report.version == "000003"


def test_back_to_the_last_that_verifies(store, keys):
    damage(store, 2, 3)
    report = rollback(store, keys[1])
    assert (report.version, report.previous) == ("000001", "000003")
    assert [number for number, _ in report.refused] == ["000003", "000002"]
    assert all("weights" in causes[0] for _, causes in report.refused)
    assert weights(store) == "weights 1"
    assert report.path == current(store)


def test_back_from_a_version_that_verifies_and_never_forward_again(store, keys):
    assert rollback(store, keys[1], leave_current=True).version == "000002"
    damage(store, 2)
    assert rollback(store, keys[1]).version == "000001"


def test_never_below_a_floor(store, keys):
    damage(store, 3)
    damage(store, 2)
    for floor in ({"min_serial": 2}, {"not_before": "2026-01-02"}):
        with pytest.raises(IntegrityError, match="Nothing was changed"):
            rollback(store, keys[1], **floor)
        assert weights(store) == "weights 3!"
    assert rollback(store, keys[1], min_serial=1).version == "000001"


def test_an_old_version_under_a_new_number_is_not_preferred(store, keys):
    """Numbers are names of folders; what counts is what was signed."""
    folder = store / "versions"
    damage(store, 3)
    os.rename(folder / "000002", folder / "x")
    os.rename(folder / "000001", folder / "000002")
    os.rename(folder / "x", folder / "000001")
    assert rollback(store, keys[1]).version == "000001"
    assert weights(store) == "weights 2"


def test_a_crash_before_the_pointer_leaves_the_old_version(store, tmp_path, keys, monkeypatch):
    def crash(*_):
        raise OSError("power")

    monkeypatch.setattr(module, "write_atomically", crash)
    with pytest.raises(InputError, match="in use still"):
        publish(store, release(tmp_path, keys[0], 4), keys[1])
    assert weights(store) == "weights 3"
    monkeypatch.undo()
    publish(store, release(tmp_path, keys[0], 5), keys[1])
    assert weights(store) == "weights 5"


def test_a_bundle_that_must_keep_its_name(store, tmp_path, keys):
    model = release(tmp_path, keys[0], 4, root_name=True)
    assert verify(publish(store, model, keys[1]), keys[1]).ok


def test_a_single_file_brings_signature_and_parity(tmp_path, keys):
    path = tmp_path / "model.keras"
    path.write_bytes(b"weights")
    sign(path, keys[0], parity=1)
    copy = publish(tmp_path / "store", path, keys[1])
    assert sorted(os.listdir(copy.parent)) == [
        "model.keras", "model.keras.parity", "model.keras.sig"
    ]  # fmt: skip
    assert rollback(tmp_path / "store", keys[1]).path == copy


@pytest.mark.parametrize(
    "text", ["", "../../etc", "000003/../x", "000009/model", "3/model", "\xff"]
)
def test_a_pointer_that_was_edited(store, text):
    (store / "current").write_bytes(text.encode("latin-1"))
    with pytest.raises(IntegrityError, match="pointer"):
        current(store)


def test_no_store(tmp_path, keys):
    with pytest.raises(InputError, match="no store"):
        rollback(tmp_path, keys[1])


@pytest.mark.parametrize("place", ["", "store", "assets/store"])
def test_a_store_inside_of_what_is_published(place, tmp_path, keys):
    model = release(tmp_path, keys[0], 1)
    with pytest.raises(InputError, match="Give a folder outside of what is published"):
        publish(model / place, model, keys[1])
    assert verify(model, keys[1]).ok
