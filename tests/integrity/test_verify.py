import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import keras_secure
from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity import atomic, generate_key_pair, sign_bundle, verify_bundle

PRIVATE_KEY, PUBLIC_KEY = generate_key_pair()
FILES = {
    "card.json": b'{"name": "model"}',
    "empty": b"",
    "saved/graph.pb": bytes(range(256)),
    "saved/variables/data": b"\0" * 5000,
}


def make_bundle(folder, files=FILES, private_key=PRIVATE_KEY, **options):
    for name, data in files.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    sign_bundle(folder, private_key, **options)
    return Path(folder)


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle")


def flip(path, position=0, mask=1):
    data = bytearray(path.read_bytes())
    data[position] ^= mask
    path.write_bytes(data)


def differences(report):
    return report.changed, report.missing, report.added


def test_an_intact_bundle_is_ok(bundle):
    report = verify_bundle(bundle, PUBLIC_KEY)
    assert report.ok
    assert report.signature_valid
    assert report.carried_key_matches is True
    assert differences(report) == ((), (), ())
    assert report.describe() == []
    report.raise_if_failed()
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True
    assert sorted(os.listdir(bundle)) == [
        "card.json", "empty", "manifest.json", "manifest.sig", "public_key.pem", "saved",
    ]  # fmt: skip


@pytest.mark.parametrize("name", [*FILES, "manifest.json", "manifest.sig", "public_key.pem"])
def test_one_flipped_byte_names_its_file(bundle, name):
    if not (bundle / name).read_bytes():
        (bundle / name).write_bytes(b"\0")
    else:
        flip(bundle / name, -1)
    report = verify_bundle(bundle, PUBLIC_KEY)
    assert not report.ok
    assert differences(report) == ((name,), (), ())
    with pytest.raises(IntegrityError, match=f"'{name}' was changed"):
        report.raise_if_failed()


@pytest.mark.parametrize("name", [*FILES, "manifest.json", "manifest.sig", "public_key.pem"])
def test_a_removed_file_is_missing(bundle, name):
    (bundle / name).unlink()
    report = verify_bundle(bundle, PUBLIC_KEY)
    assert differences(report) == ((), (name,), ())
    with pytest.raises(IntegrityError, match=f"'{name}' is missing"):
        report.raise_if_failed()


def test_added_renamed_swapped_truncated(bundle, tmp_path):
    def attacked(attack):
        copy = tmp_path / attack.__name__
        shutil.copytree(bundle, copy)
        attack(copy)
        return differences(verify_bundle(copy, PUBLIC_KEY))

    def added(folder):
        (folder / "saved" / "more").write_bytes(b"")

    def renamed(folder):
        (folder / "card.json").rename(folder / "Card.json")

    def swapped(folder):
        first, second = folder / "card.json", folder / "saved" / "graph.pb"
        one, two = first.read_bytes(), second.read_bytes()
        first.write_bytes(two)
        second.write_bytes(one)

    def truncated(folder):
        os.truncate(folder / "saved" / "variables" / "data", 4999)

    def emptied(folder):
        os.truncate(folder / "saved" / "graph.pb", 0)

    def linked(folder):
        (folder / "card.json").rename(tmp_path / "outside")
        (folder / "card.json").symlink_to(tmp_path / "outside")

    def piped(folder):
        os.mkfifo(folder / "pipe")

    def odd_name(folder):
        (folder / "new\nline").write_bytes(b"")

    def folder_for_file(folder):
        (folder / "empty").unlink()
        (folder / "empty").mkdir()

    assert attacked(added) == ((), (), ("saved/more",))
    assert attacked(renamed) == ((), ("card.json",), ("Card.json",))
    assert attacked(swapped) == (("card.json", "saved/graph.pb"), (), ())
    assert attacked(truncated) == (("saved/variables/data",), (), ())
    assert attacked(emptied) == (("saved/graph.pb",), (), ())
    assert attacked(linked) == (("card.json",), (), ())
    assert attacked(piped) == ((), (), ("pipe",))
    assert attacked(odd_name) == ((), (), ("new\nline",))
    assert attacked(folder_for_file) == ((), ("empty",), ())


def test_a_line_per_difference_cannot_be_forged_by_a_file_name(bundle):
    (bundle / "x\n'card.json' is fine").write_bytes(b"")
    assert all("\n" not in line for line in verify_bundle(bundle, PUBLIC_KEY).describe())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"files":{},"files":{},"format":"keras_secure.manifest","version":1}',
        b'{"files":{"../card.json":{"sha256":"' + b"0" * 64 + b'","size":1}},'
        b'"format":"keras_secure.manifest","version":1}',
    ],
)
@pytest.mark.parametrize("signed", [False, True])
def test_a_malformed_manifest_is_refused_even_if_signed(bundle, data, signed):
    (bundle / "manifest.json").write_bytes(data)
    if signed:
        (bundle / "manifest.sig").write_bytes(PRIVATE_KEY.sign(data))
    report = verify_bundle(bundle, PUBLIC_KEY)
    assert report.signature_valid is signed
    assert report.changed == ("manifest.json",)
    assert not report.ok


def test_the_bundle_is_not_trusted_by_the_key_inside_it(tmp_path):
    forger, forged_key = generate_key_pair()
    bundle = make_bundle(tmp_path / "forged", private_key=forger)
    report = verify_bundle(bundle, PUBLIC_KEY)
    assert not report.ok
    assert not report.signature_valid
    assert report.carried_key_matches is False
    assert differences(report) == ((), (), ())
    with pytest.raises(IntegrityError, match="not by the trusted key"):
        report.raise_if_failed()
    assert verify_bundle(bundle, forged_key).ok
    assert verify_bundle(bundle, bundle / "public_key.pem").ok, "trusted because the caller says so"


def test_wrong_key_without_a_carried_one_still_compares_files(tmp_path):
    bundle = make_bundle(tmp_path / "bare", include_public_key=False)
    other = generate_key_pair()[1]
    report = verify_bundle(bundle, other)
    assert report.carried_key_matches is None
    assert differences(report) == (("manifest.sig",), (), ())
    flip(bundle / "card.json")
    assert verify_bundle(bundle, other).changed == ("card.json", "manifest.json", "manifest.sig")
    assert verify_bundle(bundle, PUBLIC_KEY).changed == ("card.json",)


def test_a_former_signature_does_not_fit_a_new_manifest(bundle):
    old = (bundle / "manifest.sig").read_bytes()
    (bundle / "card.json").write_bytes(b"new")
    sign_bundle(bundle, PRIVATE_KEY)
    assert verify_bundle(bundle, PUBLIC_KEY).ok
    (bundle / "manifest.sig").write_bytes(old)
    assert not verify_bundle(bundle, PUBLIC_KEY).ok


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig"])
def test_a_linked_manifest_is_refused_by_name(bundle, tmp_path, name):
    (bundle / name).rename(tmp_path / name)
    (bundle / name).symlink_to(tmp_path / name)
    with pytest.raises(IntegrityError, match=name):
        verify_bundle(bundle, PUBLIC_KEY)


def test_what_cannot_be_verified_at_all(bundle, tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        verify_bundle(tmp_path / "nothing", PUBLIC_KEY)
    (tmp_path / "plain").mkdir()
    with pytest.raises(InputError, match="not a signed folder"):
        verify_bundle(tmp_path / "plain", PUBLIC_KEY)
    with pytest.raises(InputError, match="key"):
        verify_bundle(bundle, b"not a key")


def test_an_interrupted_signing_leaves_no_half_written_file(bundle, monkeypatch):
    before = {path.name: path.read_bytes() for path in bundle.iterdir() if path.is_file()}

    def interrupted(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sign_bundle(bundle, PRIVATE_KEY)
    assert {p.name: p.read_bytes() for p in bundle.iterdir() if p.is_file()} == before


def test_nothing_is_written_into_a_folder_with_links(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(IntegrityError, match="link"):
        sign_bundle(tmp_path, PRIVATE_KEY)
    assert os.listdir(tmp_path) == ["link"]


names = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="/\\:", exclude_categories=["C"]))
    .filter(lambda part: 0 < len(part.encode()) < 60 and part not in (".", "..")),
    min_size=1,
    max_size=3,
).map("/".join)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    files=st.dictionaries(names, st.binary(max_size=40), min_size=1, max_size=4),
    data=st.data(),
)
def test_any_single_flip_anywhere_is_found_and_named(tmp_path_factory, files, data):
    taken = {"manifest.json", "manifest.sig", "public_key.pem"}
    paths = sorted(files)
    folders = {"/".join(p.split("/")[:i]) for p in paths for i in range(1, p.count("/") + 1)}
    if folders & (set(paths) | taken) or set(paths) & taken:
        return
    folder = make_bundle(tmp_path_factory.mktemp("bundle"), files)
    assert verify_bundle(folder, PUBLIC_KEY).ok
    candidates = [name for name in [*paths, *sorted(taken)] if (folder / name).stat().st_size]
    name = data.draw(st.sampled_from(candidates))
    size = (folder / name).stat().st_size
    mask = data.draw(st.integers(1, 255))
    flip(folder / name, data.draw(st.integers(0, size - 1)), mask)
    report = verify_bundle(folder, PUBLIC_KEY)
    assert not report.ok
    assert differences(report) == ((name,), (), ())


def test_every_byte_of_manifest_and_signature_matters(tmp_path):
    bundle = make_bundle(tmp_path / "small", {"a": b"1"})
    for name in ("manifest.json", "manifest.sig", "public_key.pem", "a"):
        original = (bundle / name).read_bytes()
        for position in range(len(original)):
            flip(bundle / name, position, 0x20)
            assert differences(verify_bundle(bundle, PUBLIC_KEY)) == ((name,), (), ())
            (bundle / name).write_bytes(original)
    assert verify_bundle(bundle, PUBLIC_KEY).ok


def test_the_room_itself_needs_no_keras():
    """The package registers its components on import; the room alone runs on bytes."""
    code = (
        "import sys, types\n"
        "for name in ('keras', 'tensorflow', 'numpy'): sys.modules[name] = None\n"
        "package = types.ModuleType('keras_secure')\n"
        f"package.__path__ = [{str(Path(keras_secure.__file__).parent)!r}]\n"
        "sys.modules['keras_secure'] = package\n"
        "import keras_secure.integrity as integrity\n"
        "assert 'cryptography' not in sys.modules\n"
        "integrity.generate_key_pair()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_other_tools_can_check_the_signature(bundle):
    command = [
        "openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "public_key.pem", "-rawin",
        "-in", "manifest.json", "-sigfile", "manifest.sig",
    ]  # fmt: skip
    assert subprocess.run(command, cwd=bundle, capture_output=True).returncode == 0
    flip(bundle / "manifest.json")
    assert subprocess.run(command, cwd=bundle, capture_output=True).returncode != 0
