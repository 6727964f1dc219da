"""The subcommands around a server: api-key, audit-log, and what serve does not start with."""

import argparse
import json

import pytest

from keras_secure.cli import api_key, audit_log, serve
from keras_secure.errors import InputError
from keras_secure.integrity import generate_identity, generate_key_pair, save_private_key
from keras_secure.integrity import save_public_key as save_public
from keras_secure.serving import ApiKeys, AuditLog
from keras_secure.serving.sealed_inputs import InputSealer

PRIVATE_KEY, PUBLIC_KEY = generate_key_pair()


def run(module, *arguments):
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return module.main(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def log(tmp_path):
    save_public(PUBLIC_KEY, tmp_path / "key.pub")
    log = AuditLog(tmp_path / "audit.jsonl", PRIVATE_KEY)
    sealer = InputSealer(generate_identity(tmp_path / "identity.txt"))
    sealed = sealer.seal({"instances": [[1]]}, {"predictions": [[2]]})
    log.append("request", {"request": "r1", "sealed": sealed})
    log.close()
    return tmp_path / "audit.jsonl"


def test_keys_are_made_listed_and_revoked(tmp_path, capsys):
    path = tmp_path / "keys.json"
    assert run(api_key, "add", path, "alice", "--scope", "digits:*", "--expires", "2099-01-01") == 0
    text = capsys.readouterr().out.strip()
    assert ApiKeys(path).authenticate(text).name == "alice"
    assert run(api_key, "add", path, "bob", "--scope", "*:predict", "--budget", "5") == 0
    capsys.readouterr()
    identifier = text.split("_")[1]
    assert run(api_key, "revoke", path, identifier, "--reason", "left") == 0
    assert run(api_key, "list", path) == 0
    out = capsys.readouterr().out
    assert f"{identifier} alice: revoked until 2099-01-01T00:00:00Z (left); digits:*" in out
    assert "bob: valid; *:predict" in out
    assert text not in out
    with pytest.raises(InputError, match="cannot be read"):
        run(api_key, "list", tmp_path / "none.json")
    with pytest.raises(InputError, match="never be valid"):
        run(api_key, "add", path, "eve", "--scope", "*:*", "--expires", "2020-01-01")
    with pytest.raises(InputError, match="cannot be printed"):
        run(api_key, "add", path, "eve\nroot", "--scope", "*:*")


def test_a_log_is_verified_and_its_cause_named(log, tmp_path, capsys):
    trust = tmp_path / "key.pub"
    assert run(audit_log, "verify", log, "--trust", trust) == 0
    out = capsys.readouterr().out
    assert out.startswith("OK: 5 lines, 5 of them signed; head 4:")
    head = out.split()[-1]
    assert run(audit_log, "verify", log, "--trust", trust, "--anchor", head) == 0
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    assert run(audit_log, "verify", log, "--trust", trust) == 1
    captured = capsys.readouterr()
    assert "numbers 2 to 2 are not before it" in captured.err
    assert run(audit_log, "verify", log, "--trust", trust, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert report["findings"][0]["id"] == "audit_log.removed"


def test_a_folder_is_no_log(tmp_path, log, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        run(audit_log, "verify", ".", "--trust", "key.pub")


def test_kept_inputs_are_printed_for_their_reader(log, tmp_path, capsys):
    assert run(audit_log, "inputs", log, "--identity", tmp_path / "identity.txt") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["request_id"] == "r1"
    assert printed["request"] == {"instances": [[1]]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "path of a bundle"),
        (["bundle", "--upstream", "http://localhost:1"], "not both"),
        (["bundle"], "--trust"),
        (["--upstream", "http://localhost:1"], "--model"),
        (["bundle", "--trust", "{key}"], "Nobody could ask"),
        (["bundle", "--trust", "{key}", "--anonymous", "everything"], "no scope"),
        (["a/m", "b/m", "--trust", "{key}", "--anonymous", "*:*"], "Two bundles"),
        (["bundle", "--trust", "{key}", "--anonymous", "*:*", "--audit-log", "x"], "together"),
        (["bundle", "--trust", "{key}", "--anonymous", "*:*", "--mask", "name"], "audit log"),
        (["bundle", "--trust", "{key}", "--anonymous", "*:*", "--max-rows", "0"], "rows"),
        (["bundle", "--trust", "{key}", "--jwks", "none.json"], "issuer"),
        (["b=nowhere", "--trust", "{key}", "--anonymous", "*:*", "--port", "0"], "no bundle"),
        (["b", "--trust", "{key}", "--anonymous", "*:*", "--port", "99999"], "port must be"),
        (["b", "--trust", "{key}", "--anonymous", "*:*", "--workers", "0"], "workers is 0"),
        (["b", "--trust", "{key}", "--anonymous", "*:*", "--workers", "-3"], "workers is -3"),
    ],
)
def test_what_serve_does_not_start_with(tmp_path, arguments, message):
    key = save_public(PUBLIC_KEY, tmp_path / "key.pub")
    with pytest.raises(InputError, match=message):
        run(serve, *(argument.format(key=key) for argument in arguments))


def test_an_unsigned_folder_is_refused(tmp_path, capsys):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "model_card.json").write_text("{}")
    save_private_key(PRIVATE_KEY, tmp_path / "key.pem")
    key = save_public(PUBLIC_KEY, tmp_path / "key.pub")
    options = ("--trust", key, "--anonymous", "*:*", "--port", "0")
    assert run(serve, tmp_path / "bundle", *options) == 1
    told = capsys.readouterr().err
    assert "REFUSED" in told
    # Under its own name, not that of the copy that was verified and is gone.
    assert str(tmp_path / "bundle") in told
