import argparse

import pytest

from keras_secure.cli import decrypt, encrypt, passphrase
from keras_secure.cli.main import main, parse
from keras_secure.errors import InputError

FAST = "aes-gcm"


def run(*words):
    return main(parse(["keras-secure", *map(str, words)]))


@pytest.fixture
def model(tmp_path):
    (tmp_path / "model").write_bytes(b"weights")
    return tmp_path / "model"


def test_recipients_round_trip(tmp_path, model, capsys):
    assert run("encrypt", "--new-identity", tmp_path / "identity") == 0
    recipient = capsys.readouterr().out.strip()
    sealed, again = tmp_path / "sealed", tmp_path / "again"
    assert run("encrypt", model, sealed, "--recipient", recipient, "--format", FAST) == 0
    assert run("decrypt", sealed, again, "--identity", tmp_path / "identity") == 0
    assert again.read_bytes() == b"weights"
    assert [line[:4] for line in capsys.readouterr().out.splitlines()] == ["OK: ", "OK: "]
    # What exists is kept, unless it is said otherwise.
    assert run("decrypt", sealed, again, "--identity", tmp_path / "identity") == 2
    assert run("decrypt", sealed, again, "--identity", tmp_path / "identity", "--overwrite") == 0
    secret = (tmp_path / "identity").read_text().split()[-1]
    capsys.readouterr()
    assert run("decrypt", sealed, tmp_path / "x", "--identity", secret) == 2  # not on argv
    assert secret not in capsys.readouterr().err


def test_passphrases(tmp_path, model, capsys, monkeypatch):
    (tmp_path / "secret").write_text("correct horse\nbattery\n")
    monkeypatch.setenv("SECRET", "correct horse")
    monkeypatch.setenv("WRONG", "horse")
    sealed, again = tmp_path / "sealed", tmp_path / "again"
    words = ("--passphrase-file", tmp_path / "secret", "--format", FAST)
    assert run("encrypt", model, sealed, *words) == 0
    assert run("decrypt", sealed, again, "--passphrase-env", "WRONG") == 2
    assert "passphrase is wrong" in capsys.readouterr().err
    assert run("decrypt", sealed, again, "--passphrase-env", "SECRET") == 0
    assert again.read_bytes() == b"weights"


def test_tampered(tmp_path, model, capsys):
    (tmp_path / "key").write_bytes(bytes(32))
    sealed = tmp_path / "sealed"
    assert run("encrypt", model, sealed, "--key-file", tmp_path / "key") == 0
    sealed.write_bytes(sealed.read_bytes()[:-1])
    capsys.readouterr()
    assert run("decrypt", sealed, tmp_path / "again", "--key-file", tmp_path / "key") == 1
    assert capsys.readouterr().out.startswith("TAMPERED: ")
    assert not (tmp_path / "again").exists()


def test_folders(tmp_path, model):
    (tmp_path / "key").write_bytes(bytes(32))
    (tmp_path / "bundle").mkdir()
    model.rename(tmp_path / "bundle" / "model")
    words = ("--key-file", tmp_path / "key")
    assert run("encrypt", tmp_path / "bundle", tmp_path / "sealed", *words) == 0
    assert run("decrypt", tmp_path / "sealed", tmp_path / "again", *words) == 0
    assert (tmp_path / "again" / "model").read_bytes() == b"weights"
    assert run("decrypt", tmp_path / "sealed", tmp_path / "tar", *words, "--keep-archive") == 0
    assert (tmp_path / "tar").is_file()


def read(typed, monkeypatch, *words, terminal=True, **options):
    parser = argparse.ArgumentParser()
    passphrase.add_passphrase_arguments(parser)
    answers = iter(typed)
    monkeypatch.setattr("sys.stdin", argparse.Namespace(isatty=lambda: terminal))
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    return passphrase.read_passphrase(parser.parse_args([str(word) for word in words]), **options)


def test_the_prompt(tmp_path, monkeypatch):
    assert read(["a"], monkeypatch) == "a"
    assert read(["a", "a"], monkeypatch, confirm=True) == "a"
    assert read([], monkeypatch, others=["key"]) is None
    with pytest.raises(InputError, match="differ"):
        read(["a", "b"], monkeypatch, confirm=True)
    with pytest.raises(InputError, match="empty"):
        read([""], monkeypatch)
    with pytest.raises(InputError, match="no terminal"):
        read([], monkeypatch, terminal=False)
    (tmp_path / "empty").write_text("\nx")
    (tmp_path / "binary").write_bytes(b"\xff")
    for words, match in [
        (("--passphrase-env", "NOT_SET_ANYWHERE"), "is not set"),
        (("--passphrase-file", tmp_path / "nothing"), "cannot be read"),
        (("--passphrase-file", tmp_path / "empty"), "empty first line"),
        (("--passphrase-file", tmp_path / "binary"), "not text"),
        (("--passphrase-file", "a", "--passphrase-env", "B"), "one of"),
    ]:
        with pytest.raises(InputError, match=match):
            read([], monkeypatch, *words)


def test_no_passphrase_on_the_command_line():
    for command in (encrypt, decrypt):
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        assert "--passphrase" not in parser._option_string_actions


def test_usage(tmp_path, model, capsys):
    assert run("encrypt", model) == 2
    assert run("encrypt", model, tmp_path / "x", "--new-identity", tmp_path / "y") == 2
    assert run("encrypt", "--new-identity", tmp_path / "y", "--recipient", "age1...") == 2
    assert not (tmp_path / "y").exists()
    assert "encrypts nothing" in capsys.readouterr().err
    assert not (tmp_path / "y").exists()
