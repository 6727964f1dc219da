"""`keras-secure repair` from the command line."""

import argparse
import json

import pytest

from keras_secure.cli import repair as command
from keras_secure.errors import InputError
from keras_secure.integrity import generate_key_pair, publish, save_public_key, sign


@pytest.fixture
def keys(tmp_path):
    private_key, public_key = generate_key_pair()
    return private_key, str(save_public_key(public_key, tmp_path / "key.pem"))


@pytest.fixture
def bundle(tmp_path, keys):
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_bytes(name.encode() * 300)
    sign(folder, keys[0], parity=1)
    return folder


def run(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.main(parser.parse_args([str(argument) for argument in arguments]))


def test_intact(bundle, keys, capsys):
    assert run(bundle, "--trust", keys[1]) == 0
    assert capsys.readouterr().out == f"OK: {bundle} is what was signed\n"


def test_damaged_looked_at_and_repaired(bundle, keys, capsys):
    (bundle / "b").write_bytes(b"?" * 300)
    assert run(bundle, "--trust", keys[1], "--dry-run") == 1
    assert "'b' is changed at bytes 0-300" in capsys.readouterr().out
    assert run(bundle, "--trust", keys[1]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("note: 'b' is changed")
    assert out[-1].endswith("is what was signed, 1 shards from parity")
    assert (bundle / "b").read_bytes() == b"b" * 300
    assert run(bundle, "--trust", keys[1], "--dry-run") == 0


def test_too_much_is_lost(bundle, keys, capsys):
    (bundle / "a").unlink()
    (bundle / "b").unlink()
    assert run(bundle, "--trust", keys[1]) == 1
    out = capsys.readouterr().out
    assert "DAMAGED: 'a' (300 bytes) is missing" in out
    assert "LOST: nothing was changed" in out


def test_json(bundle, keys, capsys):
    (bundle / "b").write_bytes(b"")
    assert run(bundle, "--trust", keys[1], "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert report["damaged"][0]["kind"] == "truncated"


def test_a_signature_of_somebody_else(bundle, tmp_path, capsys):
    other = save_public_key(generate_key_pair()[1], tmp_path / "other.pem")
    assert run(bundle, "--trust", other) == 1
    assert capsys.readouterr().out.startswith("LOST: ")


def test_rollback(bundle, keys, tmp_path, capsys):
    store = tmp_path / "store"
    publish(store, bundle, keys[1])
    (publish(store, bundle, keys[1]) / "a").write_bytes(b"?")
    assert run(store, "--trust", keys[1], "--rollback") == 0
    out = capsys.readouterr().out
    assert "note: version 000002 is refused: 'a'" in out
    assert "OK: version 000001 is now in use" in out
    assert run(store, "--trust", keys[1], "--rollback", "--json") == 0
    assert json.loads(capsys.readouterr().out)["version"] == "000001"
    assert run(store, "--trust", keys[1], "--rollback", "--min-serial", 5) == 1


def test_arguments_that_do_not_belong_together(bundle, keys):
    with pytest.raises(InputError, match="--rollback"):
        run(bundle, "--trust", keys[1], "--min-serial", 1)
    with pytest.raises(InputError, match="--rollback"):
        run(bundle, "--trust", keys[1], "--rollback", "--dry-run")
