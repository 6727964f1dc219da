"""The subcommands keygen, sign and verify, as a shell would call them."""

import argparse
import json
import os
import shutil

import pytest

from keras_secure.cli import keygen, sign, verify
from keras_secure.errors import InputError, IntegrityError, SecurityError
from keras_secure.integrity import generate_key_pair, load_private_key, load_trust, save_public_key


def run(module, *arguments):
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return module.main(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def passphrase(tmp_path):
    path = tmp_path / "passphrase"
    path.write_text("correct horse\n")
    return path


@pytest.fixture
def bundle(tmp_path, passphrase, capsys):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "a").write_bytes(b"1")
    (folder / "b").write_bytes(b"2")
    assert run(keygen, tmp_path / "key", "--passphrase-file", passphrase) == 0
    assert run(sign, folder, "--key", tmp_path / "key", "--passphrase-file", passphrase) == 0
    capsys.readouterr()
    return folder


def test_keygen_keeps_what_is_there_and_locks_what_it_makes(tmp_path, passphrase, capsys):
    for kind in ("ed25519", "ec-p256", "hybrid"):
        path = tmp_path / kind
        assert run(keygen, path, "--kind", kind, "--passphrase-file", passphrase) == 0
        assert "fingerprint: sha256:" in capsys.readouterr().out
        assert path.stat().st_mode & 0o777 == 0o600
        load_private_key(path, "correct horse")
        with pytest.raises(InputError, match="exists and was kept"):
            run(keygen, path, "--no-passphrase")
    run(keygen, tmp_path / "open", "--no-passphrase")
    load_private_key(tmp_path / "open")


def test_intact(bundle, tmp_path, capsys):
    assert run(verify, bundle, "--trust", tmp_path / "key.pub") == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 1
    assert out[0].startswith("OK: ")
    assert "sha256:" in out[0]


def test_a_key_from_inside_the_bundle_is_warned_about(bundle, tmp_path, passphrase, capsys):
    shutil.copy(tmp_path / "key.pub", bundle / "key.pub")
    run(sign, bundle, "--key", tmp_path / "key", "--passphrase-file", passphrase)
    assert run(verify, bundle, "--trust", bundle / "key.pub") == 0
    assert "inside of what is verified" in capsys.readouterr().err
    run(verify, bundle, "--trust", tmp_path / "key.pub")
    assert capsys.readouterr().err == ""


def test_one_line_per_difference(bundle, tmp_path, capsys):
    (bundle / "a").write_bytes(b"0")
    (bundle / "b").unlink()
    (bundle / "c").write_bytes(b"")
    assert run(verify, bundle, "--trust", tmp_path / "key.pub") == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("REFUSED")] == [
        "REFUSED: 'b' is missing",
        "REFUSED: 'c' was added",
        "REFUSED: 'a' was changed at bytes 0 to 1",
    ]
    assert run(verify, bundle, "--trust", tmp_path / "key.pub", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["ok"]
    assert {finding["id"] for finding in report["findings"]} >= {"integrity.missing"}


def test_another_key_and_no_signature(bundle, tmp_path, capsys):
    other = save_public_key(generate_key_pair()[1], tmp_path / "other.pem")
    assert run(verify, bundle, "--trust", other) == 1
    assert "is not trusted" in capsys.readouterr().out
    assert run(verify, bundle, "--trust", other, "--trust", tmp_path / "key.pub") == 0
    assert run(verify, bundle, "--trust", other, "--trust", tmp_path / "key.pub",
               "--threshold", 2) == 1  # fmt: skip
    (bundle / "model.sig").unlink()
    assert run(verify, bundle, "--trust", tmp_path / "key.pub") == 1
    assert "there is no signature" in capsys.readouterr().out


def test_rotation_with_a_trust_file(bundle, tmp_path, passphrase, capsys):
    trust = tmp_path / "trust.json"
    run(keygen, tmp_path / "first", "--no-passphrase", "--name", "2026", "--trust", trust)
    run(keygen, tmp_path / "second", "--no-passphrase", "--name", "2027",
        "--valid-until", "2099-12-31", "--endorsed-by", tmp_path / "first")  # fmt: skip
    assert [key.name for key in load_trust(trust).keys] == ["2026"]
    run(sign, bundle, "--key", tmp_path / "second", "--serial", 5)
    assert run(verify, bundle, "--trust", trust) == 1
    endorsed = ["--trust", trust, "--endorsement", tmp_path / "second.endorsement"]
    assert run(verify, bundle, *endorsed, "--min-serial", 5) == 0
    assert "2027" in capsys.readouterr().out
    assert run(verify, bundle, *endorsed, "--min-serial", 6) == 1
    assert "older release" in capsys.readouterr().out
    run(keygen, tmp_path / "third", "--no-passphrase", "--name", "third", "--trust", trust)
    assert [key.name for key in load_trust(trust).keys] == ["2026", "third"]


def test_a_second_signer_adds_a_signature(bundle, tmp_path, capsys):
    run(keygen, tmp_path / "second", "--no-passphrase")
    keys = ["--trust", tmp_path / "key.pub", "--trust", tmp_path / "second.pub"]
    run(sign, bundle, "--key", tmp_path / "second", "--add-to", tmp_path / "key.pub")
    assert run(verify, bundle, *keys, "--threshold", 2) == 0


def test_a_wrong_or_missing_passphrase(bundle, tmp_path, monkeypatch):
    (tmp_path / "wrong").write_text("wrong\n")
    with pytest.raises(InputError, match=r"passphrase of .* is wrong"):
        run(sign, bundle, "--key", tmp_path / "key", "--passphrase-file", tmp_path / "wrong")
    with open(os.devnull) as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        with pytest.raises(InputError, match="no terminal"):
            run(sign, bundle, "--key", tmp_path / "key")


@pytest.mark.parametrize("case", ["no folder", "no key", "bad key", "parity"])
def test_what_cannot_be_used_is_an_input_error(bundle, tmp_path, case):
    folder, key = bundle, tmp_path / "key.pub"
    if case == "no folder":
        folder = tmp_path / "nothing"
    elif case == "no key":
        key = tmp_path / "nothing.pem"
    elif case == "bad key":
        key.write_bytes(b"not a key")
    command = [verify, folder, "--trust", key]
    if case == "parity":
        run(keygen, tmp_path / "other", "--no-passphrase")
        command = [sign, folder, "--key", tmp_path / "other", "--parity", "much"]
    with pytest.raises(SecurityError) as caught:
        run(*command)
    assert not isinstance(caught.value, IntegrityError)


def test_missing_arguments():
    parser = argparse.ArgumentParser()
    verify.add_arguments(parser)
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["bundle"])
    assert caught.value.code == 2


@pytest.mark.parametrize("option", ["--name", "--valid-until"])
def test_keygen_takes_no_word_that_it_would_not_keep(option, tmp_path):
    with pytest.raises(InputError, match=f"{option} stands in a trust file or an endorsement"):
        run(keygen, tmp_path / "key", "--no-passphrase", option, "2027-12-31")
    assert list(tmp_path.iterdir()) == []


def test_keygen_leaves_no_half_of_a_key_pair(tmp_path):
    old = tmp_path / "old"
    run(keygen, old, "--no-passphrase")
    before = set(tmp_path.iterdir())
    for arguments in (
        [tmp_path / ("x" * 252)],  # the name of the public key is too long
        [tmp_path / "new", "--trust", tmp_path / "missing" / "trust.json"],
        [tmp_path / "new", "--endorsed-by", old, "--trust", tmp_path / "missing" / "trust.json"],
    ):
        with pytest.raises(InputError, match="cannot be written"):
            run(keygen, *arguments, "--no-passphrase")
        assert set(tmp_path.iterdir()) == before


def test_keygen_keeps_an_endorsement_that_is_there(tmp_path):
    run(keygen, tmp_path / "old", "--no-passphrase")
    (tmp_path / "new.endorsement").write_bytes(b"of another key")
    with pytest.raises(InputError, match=r"new\.endorsement exists and was kept"):
        run(keygen, tmp_path / "new", "--no-passphrase", "--endorsed-by", tmp_path / "old")
    assert not (tmp_path / "new").exists()
