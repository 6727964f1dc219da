"""Folders in one encrypted file: the same bytes anywhere, nothing written outside when unpacked."""

import io
import os
import random
import shutil
import socket
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity import decrypt, encrypt, generate_key_pair, sign, verify
from keras_secure.integrity.encryption import unpacking
from keras_secure.integrity.encryption.packing import link_problem, pack, start_of_archive
from keras_secure.integrity.encryption.unpacking import unpack

KEY = bytes(range(32))


def contents(folder):
    """Everything below a folder: kind, mode, bytes or target."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode & 0o777
        if path.is_symlink():
            value = ("link", os.readlink(path))
        elif path.is_dir():
            value = ("folder", mode)
        else:
            value = ("file", mode, path.read_bytes())
        found[path.relative_to(folder).as_posix()] = value
    return found


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "bundle"
    for name in ("saved_model/variables", "empty", ".git/hooks"):
        (folder / name).mkdir(parents=True)
    generator = random.Random(0)
    for name, size in [
        ("card.json", 700),
        ("saved_model/saved_model.pb", 0),
        ("saved_model/variables/data", 512 * 40),
        (".git/hooks/run", 3),
        ("long " + "n" * 200, 5),
        ("saved_model/größe", 513),
    ]:
        (folder / name).write_bytes(generator.randbytes(size))
    (folder / ".git/hooks/run").chmod(0o755)
    (folder / "card.json").chmod(0o440)
    (folder / "saved_model").chmod(0o750)
    (folder / "inside").symlink_to("saved_model/variables/data")
    (folder / "saved_model/up").symlink_to("../card.json")
    (folder / "saved_model/far").symlink_to("./" + "n" * 150)
    return folder


def test_a_folder_comes_back_as_it_was(tmp_path, folder):
    sealed = encrypt(folder, tmp_path / "bundle.enc", key=KEY)
    again = decrypt(sealed, tmp_path / "again", key=KEY)
    assert contents(again) == contents(folder)
    assert again.stat().st_mode & 0o777 == 0o700
    (tmp_path / "there").mkdir()  # an empty folder may be filled
    assert contents(decrypt(sealed, tmp_path / "there", key=KEY)) == contents(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "again", "bundle", "bundle.enc", "there",
    ]  # fmt: skip
    for name, match in [("there", "not empty"), ("file", "is a file that was kept")]:
        if name == "file":
            (tmp_path / name).write_bytes(b"old")
        with pytest.raises(InputError, match=match):
            decrypt(sealed, tmp_path / name, key=KEY, overwrite=True)
    assert (tmp_path / "file").read_bytes() == b"old"


def test_the_archive_depends_on_contents_alone(tmp_path, folder):
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(folder, copy, symlinks=True)
    for path in [copy, *copy.rglob("*")]:
        os.utime(path, (1, 1), follow_symlinks=False)
    assert pack(copy).read() == pack(folder).read()
    (copy / "empty").rmdir()
    assert pack(copy).read() != pack(folder).read()


def test_other_programs_read_the_archive(tmp_path, folder):
    sealed = encrypt(folder, tmp_path / "bundle.enc", key=KEY)
    archive = decrypt(sealed, tmp_path / "bundle.tar", key=KEY, unpack_folder=False)
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "python", filter="tar")
    assert contents(tmp_path / "python") == contents(folder)
    # The archive that was encrypted as a file is the folder that it came from.
    again = encrypt(archive, tmp_path / "second.enc", key=KEY)
    assert contents(decrypt(again, tmp_path / "again", key=KEY)) == contents(folder)
    if shutil.which("tar"):
        (tmp_path / "tar").mkdir()
        subprocess.run(["tar", "-xpf", archive, "-C", tmp_path / "tar"], check=True)
        assert contents(tmp_path / "tar") == contents(folder)


def test_what_cannot_be_packed_is_refused(tmp_path, folder):
    def refuse(match):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(InputError, match=match):
            encrypt(folder, tmp_path / "bundle.enc", key=KEY)
        assert sorted(tmp_path.iterdir()) == before

    for target, match in [
        ("/etc/passwd", "absolute"),
        ("../outside", "leads out"),
        ("saved_model/../../x", "goes up"),
    ]:
        (folder / "link").symlink_to(target)
        refuse(match)
        (folder / "link").unlink()
    os.mkfifo(folder / "pipe")
    refuse("a device, a pipe")
    (folder / "pipe").unlink()
    (folder / "back\\slash").write_bytes(b"")
    refuse("cannot be packed")
    (folder / "back\\slash").unlink()
    place = os.fsencode(folder) + b"/\xff"
    with open(place, "wb"):
        refuse("cannot be packed")
    os.unlink(place)
    with pytest.raises(InputError, match="lies in the folder"):
        encrypt(folder, folder / "empty" / "out.enc", key=KEY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(folder / "s"))
        refuse("a socket")
    with pytest.raises(InputError, match="not a plain file"):
        encrypt(folder / "s", tmp_path / "out", key=KEY)


@pytest.mark.parametrize("size", [2**20 + 5, 9 * 2**20])
def test_a_file_that_changes_meanwhile(folder, size):
    big = folder / "saved_model/variables/data"
    big.write_bytes(bytes(8 * 2**20))  # more than is read ahead
    stream = pack(folder)
    while not stream.read(512).startswith(b"saved_model/variables/data"):
        pass
    os.truncate(big, size)
    with pytest.raises(InputError, match="changed its length"):
        stream.read()


def archive(*entries):
    """An archive with our comment and any entries: (name, type, contents, link)."""
    data = start_of_archive()
    for name, kind, body, target in entries:
        info = tarfile.TarInfo(name)
        info.type, info.size, info.linkname, info.mode = kind, len(body), target, 0o644
        data += info.tobuf(tarfile.PAX_FORMAT) + body + bytes(-len(body) % 512)
    return data + bytes(1024)


FILE, FOLDER, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ([("../evil", FILE, b"x", "")], "not allowed"),
        ([("/nowhere/evil", FILE, b"x", "")], "not allowed"),
        ([("a/../../evil", FILE, b"x", "")], "not allowed"),
        ([("c:evil", FILE, b"x", "")], "not allowed"),
        ([("a\\evil", FILE, b"x", "")], "not allowed"),
        ([("", FILE, b"x", "")], "not allowed"),
        ([("a/b", FILE, b"x", "")], "in no folder"),
        ([("a", LINK, b"", "."), ("a/b", FILE, b"x", "")], "in no folder"),
        ([("a", LINK, b"", "../evil")], "leads out"),
        ([("a", LINK, b"", "/tmp")], "absolute"),
        ([("y", LINK, b"", "."), ("x", LINK, b"", "y/../evil")], "goes up"),
        ([("a", LINK, b"", "b"), ("a", FILE, b"x", "")], "link 'a' cannot be made"),
        ([("a", FILE, b"x", ""), ("a", FILE, b"y", "")], "twice"),
        ([("a", FOLDER, b"", ""), ("a", FOLDER, b"", "")], "twice"),
        ([("a", FILE, b"x", ""), ("b", HARD, b"", "a")], "neither file nor folder"),
        ([("a", tarfile.CHRTYPE, b"", "")], "neither file"),
        ([("a", tarfile.FIFOTYPE, b"", "")], "neither file"),
        ([("a", tarfile.GNUTYPE_SPARSE, b"x", "")], "neither file"),
        ([("a", tarfile.GNUTYPE_LONGNAME, b"x" * 300, "")], "neither file"),
        ([("a", tarfile.XHDTYPE, b"x" * 2**17, "")], "too long"),
        ([("a", tarfile.XHDTYPE, b"18 linkname=evilx\n", "")], "attribute"),
        ([("a", tarfile.XHDTYPE, b"20 GNU.sparse.x=1\n", "")], "long name has no length"),
        ([("a", tarfile.XHDTYPE, b"12 size=-11\n", ""), ("b", FILE, b"", "")], "attribute"),
        ([("a", FOLDER, b"x", "")], "contents that it must not have"),
        ([("/".join("d" * 102), FILE, b"x", "")], "in no folder"),
    ],
)
def test_hostile_archives(tmp_path, entries, match):
    (tmp_path / "in").write_bytes(archive(*entries))
    sealed = encrypt(tmp_path / "in", tmp_path / "sealed", key=KEY)
    with pytest.raises(IntegrityError, match=match):
        decrypt(sealed, tmp_path / "out", key=KEY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "sealed"]


def test_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "MAX_ENTRIES", 3)
    data = archive(*[(str(i), FILE, b"", "") for i in range(4)])
    with pytest.raises(IntegrityError, match="more than"):
        unpack(io.BytesIO(data), tmp_path / "out", "x")
    deep = ["/".join("d" * i) for i in range(1, 103)]
    monkeypatch.setattr(unpacking, "MAX_ENTRIES", 1000)
    with pytest.raises(IntegrityError, match="deep"):
        unpack(io.BytesIO(archive(*[(p, FOLDER, b"", "") for p in deep])), tmp_path / "o", "x")


def test_any_damage_is_an_integrity_error(tmp_path):
    data = archive(
        ("a", FOLDER, b"", ""), ("a/" + "n" * 150, FILE, b"x" * 700, ""), ("l", LINK, b"", "a")
    )
    generator = random.Random(0)
    refused = 0
    for number in range(400):
        damaged = bytearray(data)
        for _ in range(generator.randint(1, 4)):
            damaged[generator.randrange(len(start_of_archive()), len(data))] = generator.choice(
                [0, 0x20, 0x2F, 0x2E, 0x37, 0xFF, generator.randrange(256)]
            )
        if generator.random() < 0.3:
            damaged = damaged[: generator.randrange(1024, len(damaged))]
        place = tmp_path / str(number)
        place.mkdir()
        try:
            unpack(io.BytesIO(damaged), place / "out", "x")
        except IntegrityError:
            refused += 1
        assert [path.name for path in place.iterdir()] == ["out"]
    assert refused > 300


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join),
            st.lists(st.sampled_from(["a", "b", "c", "..", "."]), max_size=5).map("/".join),
        ),
        max_size=5,
    )
)
def test_no_links_that_are_allowed_lead_out(tmp_path_factory, links):
    """Whatever links are made next to and over each other, each resolves inside."""
    root = tmp_path_factory.mktemp("root") / "x" / "y" / "z"
    root.mkdir(parents=True)
    made = []
    for path, target in links:
        if link_problem(path, target):
            continue
        place = root / path
        try:
            # Folders above a link are real, as `unpack` sees to.
            if any((root / Path(*Path(path).parts[:i])).is_symlink() for i in range(1, 3)):
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(target)
        except OSError:
            continue
        made.append(place)
    for place in made:
        try:
            resolved = place.resolve(strict=False)
        except (OSError, RuntimeError):  # a loop leads nowhere
            continue
        assert resolved == root or root in resolved.parents


def test_a_signed_folder_is_encrypted_signature_and_all(tmp_path, folder):
    private_key, public_key = generate_key_pair()
    (folder / "saved_model/far").unlink()  # it leads to nothing, which nobody signs
    sign(folder, private_key, parity=2, allow_symlinks=True)
    sealed = encrypt(folder, tmp_path / "bundle.enc", key=KEY)
    assert verify(decrypt(sealed, tmp_path / "again", key=KEY), public_key).ok
