import argparse

import pytest

from keras_secure.cli import verify as command
from keras_secure.integrity import generate_key_pair, save_public_key, sign_bundle


@pytest.fixture
def bundle(tmp_path):
    private_key, public_key = generate_key_pair()
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "a").write_bytes(b"1")
    (folder / "b").write_bytes(b"2")
    sign_bundle(folder, private_key)
    save_public_key(public_key, tmp_path / "key.pem")
    return folder


def run(folder, key):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.main(parser.parse_args([str(folder), "--public-key", str(key)]))


def test_intact(bundle, tmp_path, capsys):
    assert run(bundle, tmp_path / "key.pem") == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 1
    assert out[0].startswith("OK: ")
    assert "sha256:" in out[0]


def test_a_key_from_inside_the_bundle_is_warned_about(bundle, tmp_path, capsys):
    assert run(bundle, bundle / "public_key.pem") == 0
    assert "inside the bundle" in capsys.readouterr().err
    run(bundle, tmp_path / "key.pem")
    assert capsys.readouterr().err == ""


def test_one_line_per_difference(bundle, tmp_path, capsys):
    (bundle / "a").write_bytes(b"0")
    (bundle / "b").unlink()
    (bundle / "c").write_bytes(b"")
    assert run(bundle, tmp_path / "key.pem") == 1
    assert capsys.readouterr().out.splitlines() == [
        "TAMPERED: 'a' was changed",
        "TAMPERED: 'b' is missing",
        "TAMPERED: 'c' was added",
    ]


def test_another_key_signed(bundle, tmp_path, capsys):
    other = save_public_key(generate_key_pair()[1], tmp_path / "other.pem")
    assert run(bundle, other) == 1
    assert "not by the trusted key" in capsys.readouterr().out


def test_a_linked_manifest(bundle, tmp_path, capsys):
    (bundle / "manifest.json").rename(tmp_path / "elsewhere")
    (bundle / "manifest.json").symlink_to(tmp_path / "elsewhere")
    assert run(bundle, tmp_path / "key.pem") == 1
    assert "manifest.json" in capsys.readouterr().out


@pytest.mark.parametrize("case", ["no folder", "no manifest", "no key", "bad key"])
def test_bad_usage_is_one_line_and_two(bundle, tmp_path, capsys, case):
    folder, key = bundle, tmp_path / "key.pem"
    if case == "no folder":
        folder = tmp_path / "nothing"
    elif case == "no manifest":
        folder = tmp_path / "plain"
        folder.mkdir()
    elif case == "no key":
        key = tmp_path / "nothing.pem"
    else:
        key.write_bytes(b"not a key")
    assert run(folder, key) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("keras-secure: ")


def test_missing_arguments():
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["bundle"])
    assert caught.value.code == 2
