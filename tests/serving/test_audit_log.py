"""An audit log: every edited, dropped or swapped line is found, and what a crash leaves is not."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity import Trust, generate_identity, generate_key_pair
from keras_secure.serving import AuditLog, open_inputs, verify_audit_log
from keras_secure.serving.audit_record import FIRST, seal_record
from keras_secure.serving.masking import MASK, Masking
from keras_secure.serving.sealed_inputs import InputSealer

PRIVATE_KEY, PUBLIC_KEY = generate_key_pair()
OTHER_PUBLIC_KEY = generate_key_pair()[1]


def write(path, lines=20, close=True, key=PRIVATE_KEY, **more):
    log = AuditLog(path, key, **more)
    for number in range(lines):
        log.append("request", {"identity": f"key{number % 3}", "rows": number, "note": 'ä\n"x'})
    if close:
        log.close()
    return log


def ids(report):
    return {finding.id.removeprefix("audit_log.") for finding in report.findings}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


def test_what_was_written_verifies(path):
    write(path)
    report = verify_audit_log(path, PUBLIC_KEY)
    assert report.ok
    assert report.findings == ()
    assert report.lines == report.signed == 20 + 4
    assert path.stat().st_mode & 0o077 == 0
    assert [json.loads(line)["seq"] for line in path.read_bytes().splitlines()] == list(range(24))


def alter(lines, rng):
    """Edits, drops or swaps lines; returns what was done and the new lines."""
    lines = list(lines)
    kind = ["edit", "field", "drop", "swap", "copy", "move"][rng.integers(6)]
    place = int(rng.integers(len(lines)))
    if kind == "edit":
        data = bytearray(lines[place])
        spot = int(rng.integers(len(data)))
        data[spot] ^= int(rng.integers(1, 256))
        lines[place] = bytes(data)
    elif kind == "field":
        record = json.loads(lines[place])
        name = sorted(record)[int(rng.integers(len(record)))]
        record[name] = "0" if record[name] != "0" else "1"
        lines[place] = json.dumps(record, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    elif kind == "drop":
        del lines[place]
    elif kind == "swap":
        other = int(rng.integers(len(lines) - 1))
        other += other >= place
        lines[place], lines[other] = lines[other], lines[place]
    elif kind == "copy":
        lines.insert(int(rng.integers(len(lines) + 1)), lines[place])
    else:
        line = lines.pop(place)
        spots = [spot for spot in range(len(lines) + 1) if spot != place]
        lines.insert(spots[int(rng.integers(len(spots)))], line)
    return kind, lines


def test_a_thousand_alterations_are_found_each_time(path):
    write(path, lines=12, checkpoint_every=5)
    original = path.read_bytes().splitlines(keepends=True)
    head = path.with_name("audit.jsonl.head")
    rng = np.random.default_rng(0)
    trust = Trust((PUBLIC_KEY,))
    kinds = {}
    for _ in range(1000):
        kind, lines = alter(original, rng)
        if lines == original:  # a copy beside itself is none
            continue
        path.write_bytes(b"".join(lines))
        assert not verify_audit_log(path, trust, head=head).ok, kind
        kinds[kind] = kinds.get(kind, 0) + 1
    assert min(kinds.values()) > 100
    path.write_bytes(b"".join(original))
    assert verify_audit_log(path, trust, head=head).ok


def test_causes_are_named(path):
    write(path, lines=10)
    original = path.read_bytes().splitlines(keepends=True)

    def found(lines):
        path.write_bytes(b"".join(lines))
        return verify_audit_log(path, PUBLIC_KEY)

    edited = [line.replace(b'"rows":4', b'"rows":5') for line in original]
    assert found(edited).failures[0].id == "audit_log.edited"
    assert found(edited).failures[0].evidence == {"line": 7}
    dropped = original[:5] + original[6:]
    assert found(dropped).failures[0].id == "audit_log.removed"
    assert found(dropped).failures[0].evidence == {"line": 6, "missing": [5]}
    swapped = [*original[:5], original[6], original[5], *original[7:]]
    assert ids(found(swapped)) >= {"removed", "reordered"}
    assert "truncated" in ids(found(original[:-3]))
    head = path.with_name("audit.jsonl.head")
    head.unlink()
    # Without the last checkpoint, a cut is not seen: all up to it is as it was.
    assert found(original[:-3]).ok
    assert "unsigned_tail" in ids(found(original[:-3]))
    assert "removed" in ids(found(original[1:]))
    assert "unsigned" in ids(found(original[:1]))
    assert "unsigned" in ids(found([]))


def test_a_number_that_json_cannot_hold_is_an_edit_like_any_other(path):
    write(path, lines=2)
    whole = path.read_bytes()
    for edited in (b'"rows":1e999', b'"rows":-1e999'):
        path.write_bytes(whole.replace(b'"rows":3', edited).replace(b'"rows":0', edited))
        assert path.read_bytes() != whole
        assert not verify_audit_log(path, PUBLIC_KEY).ok
    head = path.with_name(path.name + ".head")
    head.write_bytes(head.read_bytes().replace(b'"time":1', b'"time":1e999,"late":1'))
    path.write_bytes(whole)
    with pytest.raises(InputError, match="no checkpoint"):
        verify_audit_log(path, PUBLIC_KEY)


def test_an_anchor_kept_elsewhere_finds_what_was_cut_off(path):
    log = write(path, close=False)
    log.checkpoint()
    anchor = verify_audit_log(path, PUBLIC_KEY).head
    lines = path.read_bytes().splitlines(keepends=True)
    log.close()
    path.with_name("audit.jsonl.head").unlink()
    assert verify_audit_log(path, PUBLIC_KEY, anchors=[anchor]).ok
    path.write_bytes(b"".join(lines[:2]))
    assert verify_audit_log(path, PUBLIC_KEY).ok
    assert "truncated" in ids(verify_audit_log(path, PUBLIC_KEY, anchors=[anchor]))
    with pytest.raises(InputError, match="no anchor"):
        verify_audit_log(path, PUBLIC_KEY, anchors=["5"])


def test_a_chain_computed_anew_needs_the_key(path):
    """What follows the last checkpoint can be written anew; what is before it cannot."""
    log = write(path, lines=5, close=False)
    log.checkpoint()
    log.append("request", {"rows": 77})
    lines = path.read_bytes().splitlines()

    def forge(start, key=None):
        records = [json.loads(line) for line in lines]
        previous = records[start - 1]["hash"] if start else FIRST
        forged = lines[:start]
        for record in records[start:]:
            content = {name: value for name, value in record.items() if name != "hash"}
            content["prev"] = previous
            if "rows" in content:
                content["rows"] = 1000
            line, previous = seal_record(content)
            forged.append(line[:-1])
        path.write_bytes(b"\n".join(forged) + b"\n")
        return verify_audit_log(path, PUBLIC_KEY)

    assert not forge(3).ok
    assert "signature" in ids(forge(3))
    tail = forge(len(lines) - 1)
    assert tail.ok
    assert tail.signed == tail.lines - 1
    assert "unsigned_tail" in ids(tail)


def test_checkpoints_by_others_do_not_count(path):
    write(path)
    revoked = Trust((PUBLIC_KEY,)).revoke(PUBLIC_KEY, "stolen")
    for trust in (OTHER_PUBLIC_KEY, revoked):
        with pytest.raises(InputError, match="holds no checkpoint"):
            verify_audit_log(path, trust)
    path.with_name("audit.jsonl.head").unlink()
    for trust in (OTHER_PUBLIC_KEY, revoked):
        assert ids(verify_audit_log(path, trust)) == {"signature", "unsigned"}


def test_a_new_start_goes_on(path):
    for lines in (3, 0, 5):
        write(path, lines)
    report = verify_audit_log(path, PUBLIC_KEY)
    assert report.ok
    assert report.lines == 8 + 3 * 4
    path.write_bytes(path.read_bytes()[:-30] + b'"}\n')
    with pytest.raises(IntegrityError, match="not what was written"):
        AuditLog(path, PRIVATE_KEY)


@pytest.mark.parametrize("kept", [1, 50, -1])
def test_a_torn_last_line_is_marked_and_removed(path, kept):
    log = write(path, lines=3, close=False)
    log.checkpoint()
    whole = path.read_bytes()
    log.append("request", {"rows": 1})
    line = path.read_bytes()[len(whole) :]
    log._syncing.shutdown(wait=True)
    os.close(log._file)
    log._file = -1
    path.write_bytes(whole + line[:kept])
    report = verify_audit_log(path, PUBLIC_KEY)
    assert report.ok
    assert report.torn_bytes == len(line[:kept])
    assert ids(report) == {"torn"}
    again = write(path, lines=2)
    report = verify_audit_log(path, PUBLIC_KEY)
    assert report.ok
    assert report.torn_bytes == 0
    assert ids(report) == {"torn"}
    assert again.seq == report.lines


KILLED = """
import os, sys
from keras_secure.integrity import load_private_key
from keras_secure.serving import AuditLog
log = AuditLog(sys.argv[1], sys.argv[2], checkpoint_every=7)
print("ready", flush=True)
while True:
    log.append("request", {"rows": 1, "more": "x" * 200})
"""


def test_a_killed_process_leaves_a_log_that_verifies(path, tmp_path):
    from keras_secure.integrity import save_private_key

    key = save_private_key(PRIVATE_KEY, tmp_path / "key.pem")
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path), str(key)], stdout=subprocess.PIPE
        )
        assert process.stdout.readline() == b"ready\n"
        while path.stat().st_size < 50_000:
            time.sleep(0.002)
        process.kill()
        process.wait()
        process.stdout.close()
        report = verify_audit_log(path, PUBLIC_KEY)
        assert report.ok, report.describe()
        assert report.lines - report.signed <= 7
        assert report.lines > 50


def test_two_processes_do_not_write_to_one_log(path):
    log = write(path, close=False)
    with pytest.raises(InputError, match="Another process"):
        AuditLog(path, PRIVATE_KEY)
    log.close()
    write(path)
    assert verify_audit_log(path, PUBLIC_KEY).ok


def test_a_full_disk_spoils_no_other_line(path, monkeypatch):
    log = write(path, lines=2, close=False)
    real, failing = os.write, [True]

    def broken(descriptor, data):
        if failing[0]:
            real(descriptor, data[:10])
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", broken)
    with pytest.raises(OSError, match="No space"):
        log.append("request", {"rows": 3})
    failing[0] = False
    log.append("request", {"rows": 3})
    log.close()
    report = verify_audit_log(path, PUBLIC_KEY)
    assert report.ok
    assert report.findings == ()


@pytest.mark.parametrize("max_bytes", [0, -5, 2.5])
def test_files_of_no_size_are_refused(path, max_bytes):
    with pytest.raises(InputError, match="max_bytes"):
        AuditLog(path, PRIVATE_KEY, max_bytes=max_bytes)
    assert not path.exists()


def test_nothing_is_written_to_a_file_that_was_deleted(path):
    log = write(path, lines=2, close=False)
    path.unlink()
    with pytest.raises(OSError, match="was deleted"):
        log.append("request", {"rows": 3})
    with pytest.raises(OSError, match="was deleted"):
        log.close()
    write(path)
    assert verify_audit_log(path, PUBLIC_KEY).ok


@pytest.mark.parametrize("lines", [0, 7])
def test_the_end_is_signed_also_where_a_file_is_full(path, lines):
    write(path, lines=lines, max_bytes=1)
    report = verify_audit_log([*sorted(path.parent.glob("audit.jsonl.0*")), path], PUBLIC_KEY)
    assert report.ok
    assert report.lines == report.signed


def test_files_follow_one_another(path):
    write(path, lines=60, checkpoint_every=10, max_bytes=5_000)
    files = [*sorted(path.parent.glob("audit.jsonl.0*")), path]
    assert len(files) > 2
    report = verify_audit_log(files, PUBLIC_KEY)
    assert report.ok
    assert report.findings == ()
    alone = verify_audit_log(files[1:], PUBLIC_KEY)
    assert alone.ok
    assert ids(alone) == {"continued"}
    assert "removed" in ids(verify_audit_log([files[0], *files[2:]], PUBLIC_KEY))
    write(path, lines=1)
    assert verify_audit_log(files, PUBLIC_KEY).ok


def test_lines_of_another_log_are_none_of_this(path, tmp_path):
    write(path, lines=5)
    write(tmp_path / "other.jsonl", lines=5)
    mine = path.read_bytes().splitlines(keepends=True)
    other = (tmp_path / "other.jsonl").read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*mine[:4], *other[4:]]))
    assert ids(verify_audit_log(path, PUBLIC_KEY)) >= {"chain", "other_log", "changed"}


def test_inputs_are_masked_and_sealed(tmp_path):
    identity = tmp_path / "identity.txt"
    sealer = InputSealer(generate_identity(identity), ["name"])
    request = {"instances": [{"name": "Ann Lee", "x": [41.0, 2.5]}]}
    sealed = sealer.seal(request, {"predictions": [1]}, ("x[0]",))
    # The blank keeps it from standing in Base64 by chance.
    assert "Ann Lee" not in sealed
    opened = open_inputs(sealed, identity)
    assert opened["request"] == {"instances": [{"name": MASK, "x": [MASK, 2.5]}]}
    other = tmp_path / "other.txt"
    generate_identity(other)
    with pytest.raises(InputError, match="none of the given"):
        open_inputs(sealed, other)
    with pytest.raises((IntegrityError, InputError)):
        open_inputs(sealed[:-8] + "AAAAAAA=", identity)
    with pytest.raises(InputError, match="no sealed request"):
        open_inputs("%", identity)


def test_masking_reaches_every_form_of_a_request():
    masking = Masking(["ssn", "x[1]"])
    hidden = masking.hide(
        {
            "instances": [[[1, 2], [3, 4]]],
            "inputs": {"x": [[1, 2]], "y": [[1, 2]]},
            "examples": [{"ssn": 5, "y": {"ssn": [6]}}],
            "context": {"ssn": "7"},
        }
    )
    assert hidden == {
        "instances": [[[1, MASK], [3, MASK]]],
        "inputs": {"x": [[1, MASK]], "y": [[1, 2]]},
        "examples": [{"ssn": MASK, "y": {"ssn": MASK}}],
        "context": {"ssn": MASK},
    }
    for field in ("", "[1]", "x[a]", 5, "x[1"):
        with pytest.raises(InputError):
            Masking([field])
