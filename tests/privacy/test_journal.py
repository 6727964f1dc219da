"""A journal never tells of fewer steps than were executed, wherever writing or disk fails."""

import json
import os
import subprocess
import sys

import pytest

from keras_secure.errors import InputError, PrivacyError
from keras_secure.privacy import Journal, Ledger, LedgerKey, Phase, PoissonSampling
from keras_secure.privacy.sampling import UnstatedSampling

POISSON = Phase(PoissonSampling(0.1, 100, 24), 1.1, 1.0, 10.0)
UNSTATED = Phase(UnstatedSampling(), 2.0, 1.0, 10.0)
KEY = LedgerKey(b"k" * 32)


def run(path, key=None, steps=4):
    """A run of `steps` steps in each of two phases, reserved one by one; its journal and ledger."""
    journal, ledger = Journal(path, key), Ledger()
    for plan in (POISSON, UNSTATED):
        before = journal.total_steps
        ledger.begin(plan, before)
        journal.begin(ledger, before)
        for done in range(before, before + steps):
            journal.reserve(done, done + 1)
    return journal, ledger


def reread(path, key=None):
    journal = Journal(path, key)
    found = journal.total_steps, journal.phases, journal.run_id
    journal.close()
    return found


@pytest.mark.parametrize("key", [None, KEY])
def test_round_trip(tmp_path, key):
    journal, ledger = run(tmp_path / "journal", key)
    journal.close()
    total, phases, run_id = reread(tmp_path / "journal", key)
    assert (total, run_id) == (8, ledger.run_id)
    assert phases == [POISSON.with_steps(4), UNSTATED.with_steps(4)]
    if os.name == "posix":
        assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o600


def test_reservations_count_and_are_given_back(tmp_path):
    journal, ledger = run(tmp_path / "journal")
    journal.reserve(8, 18)
    journal.reserve(12, 22)  # twelve of eighteen were executed
    assert journal.total_steps == reread(tmp_path / "journal")[0] == 22
    with pytest.raises(PrivacyError, match="was closed"):  # the file was opened again
        journal.settle(13)
    journal = Journal(tmp_path / "journal")
    journal.settle(13)
    journal.settle(13)
    size = (tmp_path / "journal").stat().st_size
    ledger.begin(POISSON, 13)
    journal.begin(ledger, 13)
    assert (tmp_path / "journal").stat().st_size > size
    assert [phase.steps for phase in reread(tmp_path / "journal")[1]] == [4, 9]


def test_every_cut_leaves_what_was_written_through_before(tmp_path):
    """A line counts once it is complete; steps are executed only after that."""
    path = tmp_path / "journal"
    run(path, steps=2)[0].close()
    data = path.read_bytes()
    # What had been reserved when the file had grown to each line's end.
    totals, ends, total = [0], [0], 0
    for line in data.splitlines(keepends=True):
        record = json.loads(line)
        total = record.get("until", total)
        totals.append(total)
        ends.append(ends[-1] + len(line))
    assert totals == [0, 0, 1, 2, 2, 3, 4]
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        found, phases, _ = reread(path)
        known = max(i for i, end in enumerate(ends) if end <= cut)
        # Only the newline is missing: the line counts, whoever took it.
        known += cut + 1 in ends
        assert found == totals[known]
        assert sum(phase.steps for phase in phases) == found
        # And the mended file can be continued, and read again.
        assert reread(path)[0] == found
        if found:
            journal = Journal(path)
            journal.reserve(found, found + 1)
            assert reread(path)[0] == found + 1


@pytest.mark.parametrize("key", [None, KEY])
def test_no_changed_byte_lowers_the_count(tmp_path, key):
    path = tmp_path / "journal"
    run(path, key, steps=1)[0].close()
    data = path.read_bytes()
    refused = 0
    for position in range(len(data)):
        for flip in (0x01, 0x80, data[position] ^ 0x0A):
            changed = bytearray(data)
            changed[position] ^= flip
            if bytes(changed) == data:
                continue
            path.write_bytes(changed)
            try:
                found = reread(path, key)[0]
            except PrivacyError:
                refused += 1
            else:
                assert found >= 2
    # All but a changed end of the last line, and spaces that JSON does not mind.
    assert refused > 2.5 * len(data)


def lines_of(path):
    return path.read_bytes().splitlines(keepends=True)


def test_lines_cannot_be_dropped_swapped_or_repeated(tmp_path):
    path = tmp_path / "journal"
    run(path)[0].close()
    lines = lines_of(path)
    for changed in (
        lines[1:],
        lines[:3] + lines[4:],
        [lines[0], lines[2], lines[1], *lines[3:]],
        [*lines[:2], lines[1], *lines[2:]],
        [*lines, lines[-1]],
    ):
        path.write_bytes(b"".join(changed))
        with pytest.raises(PrivacyError, match="is damaged in line"):
            reread(path)


def test_a_key_keeps_others_from_rewriting(tmp_path):
    path, forged = tmp_path / "journal", tmp_path / "forged"
    run(path, KEY)[0].close()
    run(forged, None, steps=1)[0].close()
    for other in (None, LedgerKey(b"o" * 32)):
        with pytest.raises(PrivacyError, match="the key"):
            reread(path, other)
    with pytest.raises(PrivacyError, match="the key"):
        reread(forged, KEY)


def test_records_must_follow_from_each_other(tmp_path):
    journal, ledger = run(tmp_path / "journal")
    for executed, until in ((9, 10), (6, 10), (8, 7), (8.0, 9), (True, 9)):
        path = tmp_path / f"{executed}-{until}"
        path.write_bytes((tmp_path / "journal").read_bytes())
        with pytest.raises(ValueError, match=r"reserve"):
            Journal(path).reserve(executed, until)
    ledger.begin(POISSON, 8)
    with pytest.raises(PrivacyError, match="do not continue"):
        journal.begin(ledger, 9)
    stranger = Ledger()
    stranger.begin(POISSON, 0)
    with pytest.raises(PrivacyError, match="do not continue"):
        journal.begin(stranger, 0)
    with pytest.raises(PrivacyError, match="No phase is open"):
        Journal(tmp_path / "new").begin(Ledger(), 0)


def test_disk_trouble_stops_before_the_step(tmp_path, monkeypatch):
    journal, _ = run(tmp_path / "journal")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(PrivacyError, match=r"No space left.*no further step may be executed"):
            journal.reserve(8, 9)
    with pytest.raises(PrivacyError, match="was closed"):
        journal.reserve(8, 9)
    assert reread(tmp_path / "journal")[0] in (8, 9)


def test_refusals(tmp_path):
    with pytest.raises(InputError, match="cannot be opened"):
        Journal(tmp_path / "missing" / "journal")
    (tmp_path / "text").write_text("this is\nno journal\n")
    with pytest.raises(PrivacyError, match="damaged in line 1"):
        Journal(tmp_path / "text")
    for line in ("[1]", "5", '"x"', "{}", '{"digest": 5}', '{"kind": "begin", "digest": ""}'):
        (tmp_path / "text").write_text(line + "\n")
        with pytest.raises(PrivacyError, match="damaged in line 1"):
            Journal(tmp_path / "text")


def test_two_processes_cannot_share_a_journal(tmp_path):
    pytest.importorskip("fcntl")
    journal, _ = run(tmp_path / "journal")
    script = (
        "import fcntl, os, sys\n"
        "file = os.open(sys.argv[1], os.O_RDWR)\n"
        "try: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except OSError: sys.exit(3)\n"
    )

    def other_process():
        return subprocess.run([sys.executable, "-c", script, str(tmp_path / "journal")]).returncode

    assert other_process() == 3
    journal.close()
    assert other_process() == 0
    import fcntl

    with open(tmp_path / "journal", "rb+") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(PrivacyError, match="in use by another process"):
            Journal(tmp_path / "journal")
