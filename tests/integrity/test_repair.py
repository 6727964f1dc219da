"""Repair: what was damaged is back to the byte, or nothing was touched and the loss is named."""

import errno
import itertools
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity import recovery
from keras_secure.integrity.erasure import stripes
from keras_secure.integrity.key_files import save_public_key
from keras_secure.integrity.keys import generate_key_pair
from keras_secure.integrity.parity import ParityTable, write_parity
from keras_secure.integrity.repair import repair
from keras_secure.integrity.sign import sign
from keras_secure.integrity.verify import verify

MIB = 2**20


@pytest.fixture(scope="module")
def keys():
    return generate_key_pair()


def fill(folder, sizes, seed=0):
    generator = np.random.default_rng(seed)
    for name, size in sizes.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(generator.bytes(size))


def snapshot(folder):
    """Everything below a folder: bytes, modes, targets of links."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else None
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        found[path.relative_to(folder).as_posix()] = (stat.S_IMODE(status.st_mode), content)
    return found


def flip(path, offset=0):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def lengthen(path):
    with path.open("ab") as file:
        file.write(b"more")


def link_away(path):
    path.unlink()
    path.symlink_to("/etc/passwd")


DAMAGES = [flip, cut, lengthen, link_away, Path.unlink]


def damage_parity(folder, index):
    path = Path(folder, "model.parity")
    length = path.stat().st_size // NUM_PARITY
    flip(path, index * length + 3)


NUM_PARITY = 3
SMALL = {"a": 700, "b/c": 3000, "b/d": 1, "e": 129, "f": 2500}


@pytest.fixture(scope="module")
def signed(tmp_path_factory, keys):
    """A folder of five shards with three of parity, to be copied; an empty file and folder too."""
    folder = tmp_path_factory.mktemp("signed") / "model"
    fill(folder, SMALL)
    (folder / "empty").touch()
    (folder / "nothing").mkdir()
    (folder / "a").chmod(0o600)
    sign(folder, keys[0], parity=NUM_PARITY)
    return snapshot(folder)


def restore(signed, folder):
    for name, (mode, content) in signed.items():
        path = folder / name
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(mode)
    return folder


@pytest.mark.parametrize(
    "lost", list(itertools.combinations(range(len(SMALL) + NUM_PARITY), NUM_PARITY))
)
def test_any_m_of_k_and_m_shards_come_back(tmp_path, signed, keys, lost):
    folder = restore(signed, tmp_path / "model")
    names = sorted(SMALL)
    for index in lost:
        if index < len(names):
            flip(folder / names[index])
        else:
            damage_parity(folder, index - len(names))
    assert not verify(folder, keys[1]).ok
    report = repair(folder, keys[1])
    assert report.ok
    assert snapshot(folder) == signed
    assert report.num_rebuilt == sum(index < len(names) for index in lost)
    expected = {names[i] if i < len(names) else "model.parity" for i in lost}
    assert {file.name for file in report.damaged} == expected


@given(st.data())
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_files_damaged_in_any_way_come_back(tmp_path_factory, signed, keys, data):
    folder = restore(signed, tmp_path_factory.mktemp("damaged") / "model")
    names = st.sampled_from(sorted(SMALL))
    lost = data.draw(st.lists(names, min_size=1, max_size=NUM_PARITY, unique=True))
    for name in lost:
        data.draw(st.sampled_from(DAMAGES))(folder / name)
    if data.draw(st.booleans()):
        (folder / "empty").unlink()
    if data.draw(st.booleans()):
        (folder / "nothing").rmdir()
    if data.draw(st.booleans()) and "b/c" not in lost:
        (folder / "b/c").chmod(0o777)
    report = repair(folder, keys[1])
    assert report.ok, report.describe()
    assert snapshot(folder) == signed


def test_one_shard_too_many_changes_nothing_and_names_the_loss(tmp_path, signed, keys):
    folder = restore(signed, tmp_path / "model")
    for name in ("a", "b/c", "e"):
        flip(folder / name)
    damage_parity(folder, 0)
    before = snapshot(folder)
    report = repair(folder, keys[1])
    assert not report.ok
    assert snapshot(folder) == before
    assert [item.file for item in report.lost] == ["a", "b/c", "e"]
    assert report.problem == "3 shards are damaged, and of 3 parity shards 2 are intact"
    assert {finding.id for finding in report.findings} == {"integrity.lost", "integrity.damaged"}
    with pytest.raises(IntegrityError, match="b/c"):
        report.raise_if_failed()


def test_without_parity_the_tensors_that_are_lost_are_named(tmp_path, keys):
    arrays = {name: np.random.default_rng(i).random(200_000) for i, name in enumerate("uvw")}
    path = tmp_path / "model.npz"
    np.savez(path, **arrays)
    sign(path, keys[0])
    data = path.read_bytes()
    flip(path, data.find(arrays["v"].tobytes()[MIB // 2 : MIB // 2 + 64]))
    before = path.read_bytes()
    report = repair(path, keys[1])
    # Shards of 1 MiB are what is known to be damaged, so a neighbour may be named beside it.
    assert "v" in report.lost[0].tensors
    assert len(report.lost[0].tensors) < 3
    assert "without parity" in report.problem
    assert path.read_bytes() == before


def big_file(folder, keys, parity, size=12 * MIB + 12345):
    path = folder / "weights.bin"
    path.write_bytes(np.random.default_rng(1).bytes(size))
    sign(path, keys[0], parity=parity)
    return path, path.read_bytes()


def test_a_burst_of_damage_in_one_file(tmp_path, keys):
    path, data = big_file(tmp_path, keys, 5)
    damaged = bytearray(data)
    damaged[3 * MIB - 5 : 6 * MIB + 7] = bytes(3 * MIB + 12)
    path.write_bytes(damaged)
    report = repair(path, keys[1], dry_run=True)
    assert "2097152-7340032" in report.damaged[0].describe()
    assert path.read_bytes() == damaged
    report = repair(path, keys[1])
    assert report.ok
    assert report.num_rebuilt == 5
    assert path.read_bytes() == data


@pytest.mark.parametrize("size", [12 * MIB + 12344, 10 * MIB + 1, 9 * MIB])
def test_a_cut_off_file(tmp_path, keys, size):
    path, data = big_file(tmp_path, keys, 0.34)
    os.truncate(path, size)
    assert repair(path, keys[1]).ok
    assert path.read_bytes() == data


def test_a_lengthened_file_needs_no_parity(tmp_path, keys):
    path, data = big_file(tmp_path, keys, None, 3 * MIB + 5)
    with path.open("ab") as file:
        file.write(bytes(MIB))
    report = repair(path, keys[1])
    assert report.ok
    assert report.num_rebuilt == 0
    assert path.read_bytes() == data


def test_a_missing_file_beside_its_signature(tmp_path, keys):
    path, data = big_file(tmp_path, keys, 1.0, 2 * MIB + 5)
    path.unlink()
    report = repair(path, keys[1])
    assert report.ok
    assert report.num_rebuilt == 3
    assert path.read_bytes() == data


def test_parity_that_is_missing_or_cut_is_computed_again(tmp_path, signed, keys):
    folder = restore(signed, tmp_path / "model")
    (folder / "model.parity").unlink()
    assert repair(folder, keys[1]).ok
    os.truncate(folder / "model.parity", 100)
    flip(folder / "a")
    report = repair(folder, keys[1])
    assert [item.file for item in report.lost] == ["a"]
    (folder / "a").write_bytes(signed["a"][1])
    assert repair(folder, keys[1]).ok
    assert snapshot(folder) == signed


def test_parity_that_somebody_computed_anew_is_not_used(tmp_path, signed, keys):
    """An attacker changes a file, and writes the parity that belongs to the change."""
    folder = restore(signed, tmp_path / "model")
    flip(folder / "f", 17)
    write_parity(folder, NUM_PARITY)
    report = repair(folder, keys[1])
    assert [item.file for item in report.lost] == ["f"]
    assert not report.ok


def test_many_stripes_share_a_burst(tmp_path, keys, monkeypatch):
    monkeypatch.setattr(stripes, "MAX_PARITY_OF_STRIPE", 2)
    folder = tmp_path / "model"
    fill(folder, {f"{number:02}": 500 + number for number in range(20)})
    sign(folder, keys[0], parity=6)
    before = snapshot(folder)
    for number in range(7, 13):
        flip(folder / f"{number:02}")
    assert repair(folder, keys[1]).ok
    assert snapshot(folder) == before
    for number in (0, 3, 6):
        flip(folder / f"{number:02}")
    report = repair(folder, keys[1])
    assert [item.file for item in report.lost] == ["00", "03", "06"]


def test_a_shard_in_another_stripe_is_not_called_lost(tmp_path, keys, monkeypatch):
    monkeypatch.setattr(stripes, "MAX_PARITY_OF_STRIPE", 1)
    folder = tmp_path / "model"
    fill(folder, {f"{number:02}": 500 for number in range(6)})
    sign(folder, keys[0], parity=2)
    for number in (0, 2, 3):
        flip(folder / f"{number:02}")
    report = repair(folder, keys[1])
    assert [item.file for item in report.lost] == ["00", "02"]
    assert [f.id for f in report.findings].count("integrity.damaged") == 1


def test_nothing_to_do(tmp_path, signed, keys):
    folder = restore(signed, tmp_path / "model")
    report = repair(folder, keys[1])
    assert report.ok
    assert report.repaired == ()
    assert report.describe() == []
    assert report.to_dict()["ok"] is True


def test_links_and_folders_come_back(tmp_path, keys):
    folder = tmp_path / "model"
    fill(folder, {"a/b": 10})
    (folder / "link").symlink_to("a/b")
    (folder / "e/f").mkdir(parents=True)
    (folder / "e/f").chmod(0o500)
    sign(folder, keys[0], allow_symlinks=True, parity=1)
    before = snapshot(folder)
    (folder / "link").unlink()
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "e/f").rmdir()
    (folder / "e").rmdir()
    (folder / "a").chmod(0o777)
    report = repair(folder, keys[1], dry_run=True)
    assert "nothing was changed" in report.problem
    report = repair(folder, keys[1])
    assert report.ok, report.describe()
    assert set(report.repaired) == {"link", "e", "e/f", "a"}
    assert snapshot(folder) == before


def test_a_link_in_the_place_of_a_folder_is_not_written_through(tmp_path, signed, keys):
    folder = restore(signed, tmp_path / "model")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "c").write_bytes(b"precious")
    for path in (folder / "b").iterdir():
        path.unlink()
    (folder / "b").rmdir()
    (folder / "b").symlink_to(outside)
    before = snapshot(folder)
    report = repair(folder, keys[1])
    assert not report.ok
    assert "'b'" in report.problem
    assert snapshot(folder) == before
    assert [path.read_bytes() for path in outside.iterdir()] == [b"precious"]


def test_a_folder_in_the_place_of_a_file_is_left_alone(tmp_path, signed, keys):
    folder = restore(signed, tmp_path / "model")
    (folder / "a").unlink()
    (folder / "a").mkdir()
    (folder / "a" / "precious").touch()
    assert "'a'" in repair(folder, keys[1]).problem
    assert (folder / "a" / "precious").exists()


def test_what_nobody_signed_is_left_and_named(tmp_path, signed, keys):
    folder = restore(signed, tmp_path / "model")
    (folder / "added").write_bytes(b"?")
    flip(folder / "a")
    report = repair(folder, keys[1])
    assert report.repaired == ("a",)
    assert not report.ok
    assert report.verification.added == ("added",)
    assert any("added" in line for line in report.describe())


def test_a_signature_of_a_stranger_repairs_nothing(tmp_path, signed, keys):
    folder = restore(signed, tmp_path / "model")
    flip(folder / "a")
    before = snapshot(folder)
    with pytest.raises(IntegrityError, match="not trusted"):
        repair(folder, generate_key_pair()[1])
    (folder / "model.sig").unlink()
    with pytest.raises(IntegrityError, match="missing"):
        repair(folder, keys[1])
    before.pop("model.sig")
    assert snapshot(folder) == before


def test_a_wrong_result_is_noticed_before_anything_is_replaced(tmp_path, signed, keys, monkeypatch):
    from keras_secure.integrity.erasure import cauchy

    folder = restore(signed, tmp_path / "model")
    flip(folder / "a")
    flip(folder / "e")
    before = snapshot(folder)
    solution = cauchy.solution
    monkeypatch.setattr(cauchy, "solution", lambda *rows: solution(*rows) ^ 1)
    with pytest.raises(IntegrityError, match="Nothing was changed"):
        repair(folder, keys[1])
    assert snapshot(folder) == before


def test_a_full_disk_leaves_everything_as_it_was(tmp_path, signed, keys, monkeypatch):
    def full(file, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = restore(signed, tmp_path / "model")
    flip(folder / "f")
    before = snapshot(folder)
    monkeypatch.setattr(recovery, "write_all", full)
    with pytest.raises(InputError, match="No space left"):
        repair(folder, keys[1])
    assert snapshot(folder) == before


KILLED = """
import os, signal, sys
from keras_secure.integrity.repair import repair
name, count = sys.argv[3], int(sys.argv[4])
function, calls = getattr(os, name), 0
def deadly(*arguments):
    global calls
    calls += 1
    if calls == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*arguments)
setattr(os, name, deadly)
print(repair(sys.argv[1], sys.argv[2]).ok)
"""


@pytest.mark.parametrize(
    ("function", "count"), [("replace", 1), ("replace", 2), ("replace", 3), ("fsync", 2)]
)
def test_killed_in_the_middle_every_file_is_the_old_or_the_new_one(
    tmp_path, signed, keys, function, count
):
    folder = restore(signed, tmp_path / "model")
    key = save_public_key(keys[1], tmp_path / "key.pem")
    flip(folder / "a")
    cut(folder / "b/c")
    damage_parity(folder, 1)
    before = snapshot(folder)
    finished = subprocess.run(
        [sys.executable, "-c", KILLED, folder, key, function, str(count)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == -signal.SIGKILL, finished.stderr
    after = snapshot(folder)
    for name, state in after.items():
        if name in signed:
            assert state in (before[name], signed[name])
    assert set(after) != set(signed), "it was killed too late to leave anything"
    assert repair(folder, keys[1]).ok
    assert snapshot(folder) == signed


def test_the_parity_table_is_read_strictly():
    table = ParityTable("model.parity", 3, 128, ("0" * 64,))
    assert ParityTable.from_dict(table.to_dict()) == table
    for change in (
        {"code": "other"},
        {"name": "../elsewhere"},
        {"name": ""},
        {"num_data": 0},
        {"num_data": True},
        {"length": 100},
        {"length": 2 * MIB},
        {"digests": []},
        {"digests": ["0"]},
        {"more": 1},
    ):
        with pytest.raises(IntegrityError, match="parity table"):
            ParityTable.from_dict({**table.to_dict(), **change})
    with pytest.raises(IntegrityError, match="parity table"):
        ParityTable.from_dict("table")


@pytest.mark.parametrize("parity", [0, -1, 0.0, 1.5, "0.1", True, float("nan")])
def test_amounts_of_parity_that_make_no_sense(tmp_path, parity):
    fill(tmp_path, {"a": 10})
    with pytest.raises(InputError, match="parity="):
        write_parity(tmp_path, parity)


def test_nothing_to_protect(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(InputError, match="not a byte"):
        write_parity(tmp_path, 1)


@pytest.mark.parametrize(("parity", "expected"), [(0.1, 3), (0.34, 11), (1.0, 30), (1, 1), (7, 7)])
def test_a_share_is_rounded_up_and_a_number_is_kept(tmp_path, parity, expected):
    fill(tmp_path, {f"{number}": 50 for number in range(30)})
    assert len(write_parity(tmp_path, parity).digests) == expected


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_is_bounded_whatever_the_size(tmp_path, keys):
    """Signing with parity, damage, repair of 300 MB, each in a process of its own."""
    path = tmp_path / "weights.bin"
    with path.open("wb") as file:
        for number in range(300):
            file.write(np.random.default_rng(number).bytes(10**6))
    sign(path, keys[0], parity=0.3)
    with path.open("r+b") as file:
        for number in range(0, 85):
            file.seek(number * 3 * MIB)
            file.write(b"damaged")
    key = save_public_key(keys[1], tmp_path / "key.pem")
    # The peak that resource.getrusage tells is that of the parent process at first.
    code = (
        "import sys; from keras_secure.integrity.repair import repair;"
        "print(repair(*sys.argv[1:]).ok);"
        "print(*(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, path, key], capture_output=True, text=True, check=True
    )
    ok, _, kibibytes, _ = finished.stdout.split()
    assert ok == "True"
    assert int(kibibytes) < 150_000
