"""Signing and verifying: intact things pass, and each change is refused under its own name."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity import (
    Trust,
    cosign,
    generate_key_pair,
    save_private_key,
    save_public_key,
    sign,
    verify,
)

PRIVATE, PUBLIC = generate_key_pair()
SHARD = 2**20


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "model"
    (root / "sub" / "empty").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / ".git" / "config").write_bytes(b"[core]")
    (root / "weights").write_bytes(bytes(range(256)) * (3 * SHARD // 256) + b"tail")
    (root / "sub" / "config.json").write_bytes(b"{}")
    (root / "sub" / "nothing").write_bytes(b"")
    return root


def causes(root, **options):
    report = verify(root, options.pop("trust", PUBLIC), **options)
    assert report.ok == (not report.causes)
    return [cause.removeprefix("integrity.") for cause in report.causes]


@pytest.mark.parametrize("kind", ["ed25519", "ec-p256", "hybrid"])
def test_an_intact_folder_is_accepted(folder, kind):
    private_key, public_key = generate_key_pair(kind)
    assert sign(folder, private_key, serial=7) == folder / "model.sig"
    report = verify(folder, public_key)
    report.raise_if_failed()
    assert report.ok
    assert report.describe() == []
    assert (report.format, report.serial, report.num_files) == ("keras_secure", 7, 4)
    assert [signer.kind for signer in report.signers] == [kind]
    assert json.loads(json.dumps(report.to_dict()))["ok"]
    assert causes(folder, trust=generate_key_pair(kind)[1]) == ["untrusted_key"]


def test_a_signature_of_ed25519_is_the_same_for_the_same_things(folder):
    first = sign(folder, PRIVATE, created="2026-11-21T12:00:00Z").read_bytes()
    assert sign(folder, PRIVATE, created="2026-11-21T12:00:00Z").read_bytes() == first
    assert sorted(os.listdir(folder)) == [".git", "model.sig", "sub", "weights"]


def test_a_single_file(tmp_path):
    path = tmp_path / "a.keras"
    path.write_bytes(bytes(SHARD + 1))
    (tmp_path / "b").write_bytes(b"not concerned")
    assert sign(path, PRIVATE) == tmp_path / "a.keras.sig"
    assert causes(path) == []
    os.symlink("a.keras", tmp_path / "link")
    assert causes(tmp_path / "link", signature=tmp_path / "a.keras.sig") == []
    path.write_bytes(bytes(SHARD) + b"x")
    report = verify(path, PUBLIC)
    assert report.findings[0].evidence["offsets"] == [SHARD]
    path.unlink()
    path.mkdir()
    assert causes(path, signature=tmp_path / "a.keras.sig") == ["special"]


def test_the_offset_of_each_changed_shard_is_named(folder):
    sign(folder, PRIVATE)
    with open(folder / "weights", "r+b") as file:
        for place in (5, 2 * SHARD + 1, 3 * SHARD + 2):
            file.seek(place)
            byte = file.read(1)
            file.seek(place)
            file.write(bytes([byte[0] ^ 1]))
    report = verify(folder, PUBLIC)
    assert report.changed == ("weights",)
    assert report.findings[0].evidence["offsets"] == [0, 2 * SHARD, 3 * SHARD]
    assert report.describe() == [
        "'weights' was changed at bytes 0 to 1048576, 2097152 to 3145732",
    ]
    with pytest.raises(IntegrityError, match="'weights' was changed at bytes 0 to 1048576"):
        report.raise_if_failed()


def _truncate(root):
    with open(root / "weights", "r+b") as file:
        file.truncate(2 * SHARD + 17)


def _extend(root):
    with open(root / "weights", "ab") as file:
        file.write(b"more")


def _swap(root):
    os.rename(root / "weights", root / "x")
    os.rename(root / "sub" / "config.json", root / "weights")
    os.rename(root / "x", root / "sub" / "config.json")


def _replace_by_link(root):
    os.rename(root / "weights", root.parent / "weights")
    os.symlink(root.parent / "weights", root / "weights")


def _replace_by_folder(root):
    (root / "weights").unlink()
    (root / "weights").mkdir()


def _replace_folder_by_file(root):
    (root / "sub" / "empty").rmdir()
    (root / "sub" / "empty").write_bytes(b"")


CHANGES = {
    "truncated": (_truncate, ["truncated"], "'weights' was cut to 2097169 of 3145732 bytes"),
    "extended": (_extend, ["extended"], "'weights' was extended from 3145732 to 3145736 bytes"),
    "missing": (lambda r: (r / "weights").unlink(), ["missing"], "'weights' is missing"),
    "added": (lambda r: (r / "new").write_bytes(b"?"), ["added"], "'new' was added"),
    "copied": (
        lambda r: (r / "new").write_bytes(b"{}"), ["added"], "'new' was added",
    ),
    "renamed": (
        lambda r: os.rename(r / "weights", r / "sub" / "w"),
        ["renamed"],
        "'weights' was renamed to 'sub/w'",
    ),
    "renamed empty": (
        lambda r: os.rename(r / "sub" / "nothing", r / "void"),
        ["renamed"],
        "'sub/nothing' was renamed to 'void'",
    ),
    "renamed folder": (
        lambda r: os.rename(r / "sub", r / "Sub"),
        ["folder_added", "folder_missing", "renamed"],
        "'sub/config.json' was renamed to 'Sub/config.json'",
    ),
    "swapped": (_swap, ["swapped"], "'weights' holds the contents that were signed as 'sub/conf"),
    "overwritten": (
        lambda r: os.replace(r / "weights", r / "sub" / "config.json"),
        ["missing", "swapped"],
        "'sub/config.json' holds the contents that were signed as 'weights'",
    ),
    "linked": (_replace_by_link, ["symlink"], "'weights' is a symbolic link to"),
    "added link": (
        lambda r: os.symlink("weights", r / "w"), ["symlink"], "where nothing was signed",
    ),
    "file to folder": (_replace_by_folder, ["special"], "is a folder, where a plain file"),
    "folder to file": (_replace_folder_by_file, ["special"], "is a plain file, where a folder"),
    "pipe": (lambda r: os.mkfifo(r / "pipe"), ["special"], "'pipe' is a device, a pipe"),
    "mode": (lambda r: os.chmod(r / "weights", 0o755), ["mode"], "has permissions 0755, and 06"),
    "folder mode": (lambda r: os.chmod(r / "sub", 0o777), ["mode"], "'sub' has permissions 0777"),
    "git": (
        lambda r: (r / ".git" / "config").write_bytes(b"[evil]"),
        ["changed"],
        "'.git/config' was changed",
    ),
    "added to git": (
        lambda r: (r / ".git" / "hook").write_bytes(b"#!"), ["added"], "'.git/hook' was added",
    ),
    "empty folder": (lambda r: (r / "sub" / "e").mkdir(), ["folder_added"], "'sub/e' is a folder"),
    "no empty folder": (
        lambda r: (r / "sub" / "empty").rmdir(), ["folder_missing"], "'sub/empty' is missing",
    ),
    "empty file": (
        lambda r: (r / "sub" / "nothing").write_bytes(b"x"), ["extended"], "from 0 to 1 bytes",
    ),
    "undecodable name": (
        lambda r: (r / os.fsdecode(b"\xff")).write_bytes(b""), ["added"], r"'\udcff' was added",
    ),
    "unsigned": (lambda r: (r / "model.sig").unlink(), ["unsigned"], "there is no signature"),
    "linked signature": (
        lambda r: (
            os.rename(r / "model.sig", r.parent / "s"), os.symlink("../s", r / "model.sig"),
        ),
        ["signature_file"],
        "is not a plain file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_is_refused_under_its_name(folder, name):
    change, expected, line = CHANGES[name]
    sign(folder, PRIVATE)
    assert causes(folder) == []
    change(folder)
    assert causes(folder) == expected
    report = verify(folder, PUBLIC)
    assert any(line in described for described in report.describe()), report.describe()
    json.dumps(report.to_dict())


def test_other_permissions_can_be_accepted(folder):
    sign(folder, PRIVATE)
    os.chmod(folder / "weights", 0o600)
    os.chmod(folder / "sub", 0o700)
    assert causes(folder) == ["mode"]
    assert causes(folder, check_modes=False) == []


def test_links_are_refused_unless_they_are_allowed_and_stay_inside(folder):
    (folder / "sub" / "link").symlink_to("../weights")
    (folder / "again").symlink_to("sub/link")
    (folder / "there").symlink_to("sub/empty")
    with pytest.raises(IntegrityError, match="is a symbolic link"):
        sign(folder, PRIVATE)
    sign(folder, PRIVATE, allow_symlinks=True)
    assert causes(folder) == []
    (folder / "there").unlink()
    assert causes(folder) == ["missing"]
    (folder / "there").symlink_to("sub")
    assert causes(folder) == ["symlink"]
    (folder / "there").unlink()
    (folder / "there").mkdir()
    assert causes(folder) == ["symlink"]


@pytest.mark.parametrize(
    "target",
    ["/etc/passwd", "../outside", "sub/../../model/weights", "nowhere", "loop", "there/../weights"],
)
def test_links_that_lead_out_or_nowhere_are_never_signed(folder, target):
    (folder / "there").symlink_to("sub/empty")
    (folder / "loop").symlink_to("back")
    (folder / "back").symlink_to("loop")
    (folder.parent / "outside").write_bytes(b"")
    (folder / "link").symlink_to(target)
    if target != "loop":
        (folder / "loop").unlink()
        (folder / "back").unlink()
    with pytest.raises(IntegrityError, match="cannot be signed"):
        sign(folder, PRIVATE, allow_symlinks=True)


@pytest.mark.parametrize("name", ["a:b", "aux.txt", "dot.", "space ", "what?", "back\\slash"])
def test_names_that_other_systems_read_differently_are_refused(folder, name):
    (folder / name).write_bytes(b"")
    with pytest.raises(IntegrityError, match="Rename it"):
        sign(folder, PRIVATE)


def test_the_name_of_the_root_when_asked(folder):
    sign(folder, PRIVATE)
    moved = folder.with_name("other")
    os.rename(folder, moved)
    assert causes(moved) == []
    sign(moved, PRIVATE, root_name=True)
    assert causes(moved) == []
    os.rename(moved, folder)
    assert causes(folder) == ["name"]


def test_an_old_signature_over_new_contents_and_an_old_release(folder):
    sign(folder, PRIVATE, serial=1, created="2026-01-01")
    shutil.copytree(folder, folder.with_name("old"))
    for name in ("weights", "sub/config.json"):
        (folder / name).write_bytes(b"new" * 10)
    sign(folder, PRIVATE, serial=2, created="2026-02-01")
    assert causes(folder, min_serial=2, not_before="2026-02-01T00:00:00Z") == []
    shutil.copy(folder.with_name("old") / "model.sig", folder / "model.sig")
    report = verify(folder, PUBLIC)
    assert set(report.changed) == {"weights", "sub/config.json"}
    hint = next(f for f in report.findings if f.id == "integrity.other_contents")
    assert hint.evidence["serial"] == 1
    assert "rollback" in causes(folder, min_serial=2)
    old = folder.with_name("old")
    assert causes(old) == []
    assert causes(old, min_serial=2) == ["rollback"]
    assert causes(old, not_before="2026-01-15") == ["rollback"]
    assert causes(old, min_serial=1, not_before="2026-01-01") == []


def test_several_signers_and_a_threshold(folder):
    pairs = [generate_key_pair(kind) for kind in ("ed25519", "ec-p256", "hybrid")]
    public = [pair[1] for pair in pairs]
    sign(folder, [pair[0] for pair in pairs])
    assert causes(folder, trust=Trust(tuple(public), threshold=3)) == []
    assert causes(folder, trust=public) == []
    assert causes(folder, trust=public[:2]) == ["untrusted_key"]
    assert causes(folder, trust=public[:2], allow_unknown_signers=True) == []
    sign(folder, [pairs[0][0]])
    assert causes(folder, trust=Trust(tuple(public), threshold=2)) == ["threshold"]
    cosign(folder, pairs[1][0], trust=public[0])
    assert causes(folder, trust=Trust(tuple(public), threshold=2)) == []
    with pytest.raises(InputError, match=r"signed .* already"):
        cosign(folder, pairs[1][0], trust=public[0])
    (folder / "weights").write_bytes(b"")
    with pytest.raises(IntegrityError, match="'weights' was cut"):
        cosign(folder, pairs[2][0], trust=public[0])


def test_a_private_key_that_would_be_shipped_is_refused(folder):
    path = save_private_key(PRIVATE, folder / "key.pem")
    with pytest.raises(InputError, match="could sign as you"):
        sign(folder, path)
    with pytest.raises(InputError, match="given twice"):
        sign(folder, [PRIVATE, PRIVATE])
    with pytest.raises(InputError, match="no key to sign with"):
        sign(folder, [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"serial": -1}, "serial is -1"),
        ({"serial": 1.5}, "serial is 1.5"),
        ({"created": "yesterday"}, "created is 'yesterday'"),
        ({"created": "2026-01-01T00:00:00"}, "time zone"),
    ],
)
def test_arguments_of_signing(folder, options, message):
    with pytest.raises(InputError, match=message):
        sign(folder, PRIVATE, **options)
    assert not (folder / "model.sig").exists()


def test_what_is_not_there(tmp_path):
    for call in (sign, verify):
        with pytest.raises(InputError, match="There is no"):
            call(tmp_path / "absent", PRIVATE if call is sign else PUBLIC)


def test_a_detached_signature(folder):
    elsewhere = folder.parent / "detached.sig"
    sign(folder, PRIVATE, signature=elsewhere)
    assert causes(folder, signature=elsewhere) == []
    assert causes(folder) == ["unsigned"]
    shutil.copy(elsewhere, folder / "model.sig")
    assert causes(folder, signature=elsewhere) == ["added"]
    sign(folder, PRIVATE, signature=folder / "sub" / "my.sig")
    assert causes(folder, signature=folder / "sub" / "my.sig") == []


def test_parity_is_signed_with_the_rest(folder):
    sign(folder, PRIVATE, parity=1)
    assert causes(folder) == []
    with open(folder / "model.parity", "r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 1]))
    assert causes(folder) == ["changed"]
    sign(folder, PRIVATE, parity=0.5)
    assert causes(folder) == []
    (folder / "model.parity").unlink()
    assert causes(folder) == ["missing"]


def test_parity_of_a_single_file_is_signed_beside_it(tmp_path):
    path = tmp_path / "a.keras"
    path.write_bytes(b"weights")
    sign(path, PRIVATE, parity=1)
    assert causes(path) == []
    (tmp_path / "a.keras.parity").write_bytes(b"x")
    assert causes(path) == ["truncated"]
    (tmp_path / "a.keras.parity").unlink()
    assert causes(path) == ["missing"]


def test_a_huge_file_in_the_place_of_a_small_one_is_not_read(folder, monkeypatch):
    (folder / "sub" / "config.json").write_bytes(b"{}")
    sign(folder, PRIVATE)
    with open(folder / "sub" / "config.json", "r+b") as file:
        file.truncate(2**40)
    with open(folder / "added", "wb") as file:
        file.truncate(2**40)
    assert causes(folder) == ["added", "extended"]


def test_neither_keras_nor_tensorflow_nor_numpy_is_loaded(folder, tmp_path):
    sign(folder, PRIVATE)
    save_public_key(PUBLIC, tmp_path / "key.pem")
    script = (
        "import sys; from keras_secure import integrity;"
        f"integrity.verify({str(folder)!r}, {str(tmp_path / 'key.pem')!r}).raise_if_failed();"
        "print([name for name in ('keras', 'tensorflow', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("wrong", ["3", 1.5, True])
def test_a_serial_number_to_compare_with_is_a_whole_number(wrong, tmp_path):
    private_key, public_key = generate_key_pair()
    (tmp_path / "a").write_bytes(b"1")
    sign(tmp_path / "a", private_key)
    with pytest.raises(InputError, match=r"min_serial is .*; expected a whole number"):
        verify(tmp_path / "a", public_key, min_serial=wrong)


def test_the_first_and_the_last_time_there_is(tmp_path):
    private_key, public_key = generate_key_pair()
    (tmp_path / "a").write_bytes(b"1")
    for time in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
        sign(tmp_path / "a", private_key, created=time)
        report = verify(tmp_path / "a", public_key)
        assert report.ok
        assert report.created == time


def test_no_larger_curve_signs(tmp_path):
    from cryptography.hazmat.primitives.asymmetric import ec

    (tmp_path / "a").write_bytes(b"1")
    with pytest.raises(InputError, match=r"give an Ed25519, an EC P-256"):
        sign(tmp_path / "a", ec.generate_private_key(ec.SECP384R1()))
