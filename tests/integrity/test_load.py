"""load_model: loads what was verified and scanned, byte for byte, and nothing else."""

import io
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity import LoadLimits, generate_key_pair, load_model, sign
from keras_secure.integrity import load as module
from keras_secure.layers import InputGuard

PRIVATE, PUBLIC = generate_key_pair()
X = np.random.default_rng(0).random((3, 4)).astype("float32")


@keras.saving.register_keras_serializable("theirs")
class Doubled(layers.Dense):
    """A custom layer that its package registers with Keras."""

    def call(self, inputs):
        return 2 * super().call(inputs)


@pytest.fixture
def signed(tmp_path):
    """A model and its signed file."""
    model = keras.Sequential([keras.Input((4,)), InputGuard(), layers.Dense(2)])
    model.compile("adam", loss="mse")
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "a.keras")
    sign(tmp_path / "a.keras", PRIVATE, serial=2)
    return model, tmp_path / "a.keras"


def saved(path, *inner):
    model = keras.Sequential([keras.Input((4,)), *inner])
    model.save(path)
    return path


def same(first, second):
    return np.array_equal(first.predict(X, verbose=0), second.predict(X, verbose=0))


def test_loads_what_was_signed(signed, tmp_path):
    model, path = signed
    loaded = load_model(path, trust=PUBLIC, min_serial=2)
    assert same(loaded, model)
    assert loaded.optimizer is not None
    assert not load_model(path, PUBLIC, compile=False).compiled
    # Links lead to it as well, as in the caches of hubs.
    (tmp_path / "links").mkdir()
    for name in ("a.keras", "a.keras.sig"):
        (tmp_path / "links" / name).symlink_to(tmp_path / name)
    assert same(load_model(tmp_path / "links" / "a.keras", PUBLIC), model)
    moved = shutil.move(tmp_path / "a.keras.sig", tmp_path / "elsewhere.sig")
    with pytest.raises(IntegrityError, match=r"a\.keras"):
        load_model(path, PUBLIC)
    assert same(load_model(path, PUBLIC, signature=moved), model)
    assert same(load_model(path, None), model)


def test_what_is_not_trusted(signed):
    _, path = signed
    with pytest.raises(IntegrityError, match="not trusted"):
        load_model(path, generate_key_pair()[1])
    with pytest.raises(IntegrityError, match="serial"):
        load_model(path, PUBLIC, min_serial=3)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="was changed at bytes"):
        load_model(path, PUBLIC)


@pytest.mark.parametrize("parity", [None, 2])
def test_a_file_in_a_signed_folder(tmp_path, parity):
    folder = tmp_path / "bundle"
    (folder / "more").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "card.json").write_text("{}")
    (folder / "card.json").chmod(0o640)
    saved(folder / "model.keras", layers.Dense(2))
    saved(folder / "more" / "b.keras", layers.Dense(3))
    sign(folder, PRIVATE, root_name=True, parity=parity)
    assert load_model(folder, PUBLIC).output_shape == (None, 2)
    assert load_model(folder / "more" / "b.keras", PUBLIC).output_shape == (None, 3)
    named = load_model(folder / "model.keras", PUBLIC, signature=folder / "model.sig")
    assert named.output_shape == (None, 2)
    # The whole folder is what was signed.
    (folder / "card.json").write_text("[]")
    with pytest.raises(IntegrityError, match=r"card\.json"):
        load_model(folder / "more" / "b.keras", PUBLIC)


def test_a_signed_file_with_parity(tmp_path):
    path = saved(tmp_path / "a.keras", layers.Dense(2))
    sign(path, PRIVATE, parity=2)
    assert load_model(path, PUBLIC).output_shape == (None, 2)


def test_what_is_verified_is_what_is_loaded(signed, monkeypatch):
    model, path = signed
    verify, scan = module.verify, module.scan
    evil = path.with_name("evil.keras")
    saved(evil, layers.Dense(1))

    def exchange(function):
        def call(copied, *arguments, **options):
            assert Path(copied).parent.parent.stat().st_mode & 0o777 == 0o700
            result = function(copied, *arguments, **options)
            shutil.copy(evil, path)
            return result

        return call

    monkeypatch.setattr(module, "verify", exchange(verify))
    monkeypatch.setattr(module, "scan", exchange(scan))
    assert same(load_model(path, PUBLIC), model)
    assert path.read_bytes() == evil.read_bytes()


def test_harmful_files_are_refused_though_signed(tmp_path):
    path = saved(tmp_path / "a.keras", layers.Lambda(lambda x: x * 2))
    sign(path, PRIVATE)
    with pytest.raises(IntegrityError, match="Lambda"):
        load_model(path, PUBLIC)
    # Without the scan there is safe mode still.
    with pytest.raises(InputError, match="safe_mode=False"):
        load_model(path, PUBLIC, scan=False)


def test_safe_mode_that_was_switched_off(signed):
    _, path = signed
    found = []

    def load():
        keras.config.enable_unsafe_deserialization()
        try:
            load_model(path, PUBLIC)
        except InputError as error:
            found.append(str(error))

    # What Keras remembers of this is the thread's.
    thread = threading.Thread(target=load)
    thread.start()
    thread.join()
    assert "enable_unsafe_deserialization() is in force" in found[0]
    load_model(path, PUBLIC)


def test_custom_objects_are_those_that_are_given(tmp_path):
    path = saved(tmp_path / "a.keras", Doubled(2))
    sign(path, PRIVATE)
    with pytest.raises(IntegrityError, match="Doubled"):
        load_model(path, PUBLIC)  # registered with Keras as it is
    for given in ([Doubled], {"Doubled": Doubled}, {"theirs>Doubled": Doubled}):
        loaded = load_model(path, PUBLIC, custom_objects=given)
        assert type(loaded.layers[-1]).__name__ == "Doubled"
    with pytest.raises(InputError, match="expected classes and functions"):
        load_model(path, PUBLIC, custom_objects=["Doubled"])


def test_what_is_no_model(tmp_path):
    with pytest.raises(InputError, match="There is no"):
        load_model(tmp_path / "a.keras", PUBLIC)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    model.save(tmp_path / "a.h5")
    model.save_weights(tmp_path / "a.weights.h5")
    (tmp_path / "b.keras").write_bytes((tmp_path / "a.h5").read_bytes())
    for name in ("a.h5", "a.weights.h5", "b.keras"):
        sign(tmp_path / name, PRIVATE)
        with pytest.raises(InputError, match=r"is not a \.keras file"):
            load_model(tmp_path / name, PUBLIC)
    (tmp_path / "folder").mkdir()
    sign(tmp_path / "folder", PRIVATE)
    with pytest.raises(InputError, match=r"holds no file model\.keras"):
        load_model(tmp_path / "folder", PUBLIC)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("config.json", "{}")
    (tmp_path / "c.keras").write_bytes(archive.getvalue())
    with pytest.raises((InputError, IntegrityError)):
        load_model(tmp_path / "c.keras", None)
    os.mkfifo(tmp_path / "d.keras")
    with pytest.raises(IntegrityError, match="a pipe"):
        load_model(tmp_path / "d.keras", None)


def test_no_copy_is_left(signed, tmp_path, monkeypatch):
    _, path = signed
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    load_model(path, PUBLIC)
    with pytest.raises(IntegrityError):
        load_model(path, generate_key_pair()[1])
    assert list(place.iterdir()) == []


# -- isolation --------------------------------------------------------------------------------


def test_isolation_loads_what_is_harmless(signed):
    model, path = signed
    assert same(load_model(path, PUBLIC, isolate=True), model)


def test_isolation_holds_time_and_memory(signed):
    _, path = signed
    with pytest.raises(IntegrityError, match="took more than 1 s"):
        load_model(path, PUBLIC, isolate=True, limits=LoadLimits(seconds=1))
    with pytest.raises(IntegrityError, match=r"it may use 0\.25 GiB of memory"):
        load_model(path, PUBLIC, isolate=True, limits=LoadLimits(memory=2**28))
    for options in ({"seconds": 0}, {"memory": "8 GB"}):
        with pytest.raises(InputError, match="at least 1"):
            LoadLimits(**options)


@pytest.mark.slow
def test_a_bomb_goes_off_elsewhere(tmp_path):
    path = saved(tmp_path / "a.keras", layers.Dense(2, name="bomb"))
    # 2**34 units: 256 GiB of zeros, which a few bytes of configuration ask for.
    with zipfile.ZipFile(path) as opened:
        parts = {name: opened.read(name) for name in opened.namelist()}
    parts["config.json"] = parts["config.json"].replace(b'"units": 2', b'"units": 17179869184')
    with zipfile.ZipFile(path, "w") as opened:
        for name, data in parts.items():
            opened.writestr(name, data)
    with pytest.raises(IntegrityError, match="did not load in a process of its own"):
        load_model(path, None, scan=False, isolate=True)


def test_custom_objects_that_another_process_cannot_import(tmp_path):
    path = saved(tmp_path / "a.keras", Doubled(2))

    class Local(Doubled):
        pass

    with pytest.raises(InputError, match="cannot be imported by another process"):
        load_model(path, None, isolate=True, custom_objects={"Doubled": Local})


def test_limits_hold_in_the_process():
    script = (
        "from keras_secure.integrity.isolation import restrict_process\n"
        "limits = {'memory': 2**30, 'seconds': 5, 'files': 20, 'file_size': 1000}\n"
        "restrict_process(limits)\n"
        "import resource, tempfile, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "def fails(error, do):\n"
        "    try:\n"
        "        do()\n"
        "    except error:\n"
        "        return\n"
        "    raise SystemExit('it was possible')\n"
        "fails(MemoryError, lambda: bytearray(2**31))\n"
        "fails(OSError, lambda: [open('/dev/null') for _ in range(30)])\n"
        "def write():\n"
        "    with tempfile.TemporaryFile() as file:\n"
        "        file.write(bytes(10**6))\n"
        "fails(OSError, write)\n"
        "fails(ValueError, lambda: resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout


def test_errors_name_the_file_that_was_given(signed, tmp_path):
    _, path = signed
    path.write_bytes(path.read_bytes() + b"1")
    unsigned = saved(tmp_path / "unsigned.keras", layers.Dense(2))
    harmful = saved(tmp_path / "harmful.keras", Doubled(2))
    for file, trust in ((path, PUBLIC), (unsigned, PUBLIC), (harmful, None)):
        with pytest.raises(IntegrityError) as caught:
            load_model(file, trust)
        assert str(caught.value).startswith(str(file))
        # The copy is gone by now.
        assert "keras_secure." not in str(caught.value).replace(str(tmp_path), "")


def test_a_refused_class_is_named_as_it_is_allowed(tmp_path):
    path = saved(tmp_path / "a.keras", Doubled(2))
    with pytest.raises(IntegrityError, match=r"1 finding: .*registered as theirs>Doubled, is no"):
        load_model(path, trust=None)
    assert load_model(path, trust=None, custom_objects={"theirs>Doubled": Doubled}).built
