"""`keras-secure watermark` from the command line."""

import argparse
import json
import stat

import keras
import numpy as np
import pytest

from keras_secure.cli import watermark as command
from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity import generate_key_pair, save_private_key, save_public_key


def run(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.main(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def files(tmp_path):
    private_key, public_key = generate_key_pair()
    save_private_key(private_key, tmp_path / "sign.pem")
    save_public_key(public_key, tmp_path / "sign.pub")
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, name="wide")])
    model.save(tmp_path / "plain.keras")
    return tmp_path


def embed(files, *more):
    key = ["--key-file", files / "key"]
    return run("embed", files / "plain.keras", *key, "--output", files / "marked.keras", *more)


def test_embed_commit_and_verify(files, capsys):
    assert embed(files, "--new-key", "--payload", "ACME") == 0
    assert stat.S_IMODE((files / "key").stat().st_mode) == 0o600
    assert "0 of 256 raw bits wrong" in capsys.readouterr().out
    key = ["--key-file", files / "key"]
    signing = ["--signing-key", files / "sign.pem", "--output", files / "commitment.json"]
    marked = files / "marked.keras"
    assert run("commit", marked, *key, *signing, "--payload", "ACME", "--format", "json") == 0
    committed = json.loads(capsys.readouterr().out)
    assert len(committed["digest"]) == 64
    claim = ["--commitment", files / "commitment.json", "--public-key", files / "sign.pub"]
    assert run("verify", marked, *key, *claim) == 0
    assert capsys.readouterr().out.startswith("PROVED")
    assert run("verify", marked, *key, "--payload", "ACME", "--format", "json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["verdict"], report["payload_matches"]) == ("proved", True)
    assert run("verify", files / "plain.keras", *key, *claim) == 1
    assert capsys.readouterr().out.startswith("REFUTED")
    assert run("verify", marked, *key, *claim, "--released", "2020-01-01") == 1
    assert "before it" in capsys.readouterr().out
    assert run("verify", marked, *key, *claim, "--reference", marked) == 0
    assert run("verify", marked, *key) == 1, "the payload that is drawn from the key is another"
    assert "another payload, 41434d4500000000" in capsys.readouterr().out


def test_a_refuted_claim_and_a_failed_one_read_differently(files, capsys):
    embed(files, "--new-key")
    key = ["--key-file", files / "key"]
    signing = ["--signing-key", files / "sign.pem", "--output", files / "commitment.json"]
    assert run("commit", files / "marked.keras", *key, *signing) == 0
    narrow = keras.Sequential([keras.Input((64,)), keras.layers.Dense(48, name="wide")])
    narrow.save(files / "narrow.keras")
    claim = [*key, "--commitment", files / "commitment.json", "--public-key", files / "sign.pub"]
    capsys.readouterr()
    assert run("verify", files / "plain.keras", *claim) == 1
    assert capsys.readouterr().out.startswith("REFUTED")
    assert run("verify", files / "narrow.keras", *claim) == 3
    printed = capsys.readouterr().out
    assert printed.startswith("NOT COMPARED")
    assert "its shape was (64, 64) and is (64, 48)" in printed
    other = keras.Sequential([keras.Input((5, 1)), keras.layers.Conv1D(3, 2)])
    other.save(files / "other.keras")
    by_reference = [*key, "--reference", files / "marked.keras", "--format", "json"]
    assert run("verify", files / "other.keras", *by_reference) == 3
    assert json.loads(capsys.readouterr().out)["verdict"] == "failed"


def test_a_permuted_model_is_proved_by_the_reference(files, capsys):
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(64)]
    )
    model.save(files / "plain.keras")
    embed(files, "--new-key")
    marked = keras.saving.load_model(files / "marked.keras")
    order = np.random.default_rng(0).permutation(64)
    first, bias, second, offset = marked.get_weights()
    marked.set_weights([3 * first[:, order], 3 * bias[order], second[order] / 3, offset])
    marked.save(files / "permuted.keras")
    key = ["--key-file", files / "key"]
    capsys.readouterr()
    assert run("verify", files / "permuted.keras", *key) == 1
    assert "give the owner's reference" in capsys.readouterr().out
    assert run("verify", files / "permuted.keras", *key, "--reference", files / "marked.keras") == 0
    assert "after re-alignment" in capsys.readouterr().out


def test_what_cannot_be_used_is_refused(files):
    with pytest.raises(InputError, match="--new-key makes one"):
        embed(files)
    embed(files, "--new-key")
    before = (files / "key").read_bytes()
    with pytest.raises(InputError, match="exists already"):
        embed(files, "--new-key")
    assert (files / "key").read_bytes() == before
    with pytest.raises(InputError, match="no layer or weight 'none'"):
        embed(files, "--layers", "none")
    key = ["--key-file", files / "key"]
    with pytest.raises(InputError, match="belong together"):
        run("verify", files / "marked.keras", *key, "--commitment", files / "none")
    with pytest.raises(InputError, match=r"no \.keras file"):
        run("verify", files / "key", *key)
    (files / "broken.keras").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"broken\.keras is not a \.keras file"):
        run("verify", files / "broken.keras", *key)
    signing = ["--signing-key", files / "sign.pem", "--output", files / "commitment.json"]
    with pytest.raises(InputError, match="does not carry the mark"):
        run("commit", files / "plain.keras", *key, *signing)
    (files / "empty").touch()
    with pytest.raises(InputError, match="is empty"):
        run("verify", files / "marked.keras", "--key-file", files / "empty")


@pytest.mark.parametrize("output", ["marked.keras", "missing/marked.keras"])
def test_a_failed_embedding_leaves_nothing(output, files):
    before = set(files.iterdir())
    with pytest.raises(InputError, match=r"cannot be written|payload cannot be used"):
        run(
            *("embed", files / "plain.keras", "--new-key", "--key-file", files / "key"),
            *("--output", files / output, "--payload", "ACME" if "/" in output else "9 letters"),
        )
    assert set(files.iterdir()) == before


def test_embedding_keeps_how_the_model_is_trained(files):
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64)])
    model.compile("adam", "mse")
    model.fit(np.ones((4, 64)), np.ones((4, 64)), verbose=0)
    model.save(files / "plain.keras")
    embed(files, "--new-key")
    marked = keras.saving.load_model(files / "marked.keras")
    assert marked.optimizer.iterations == 1


def test_a_file_with_code_is_scanned_and_never_loaded(files):
    embed(files, "--new-key")
    model = keras.Sequential([keras.Input((64,)), keras.layers.Lambda(lambda x: x)])
    model.save(files / "code.keras")
    with pytest.raises(IntegrityError, match="not safe to load"):
        run("verify", files / "code.keras", "--key-file", files / "key")


def test_embedding_leaves_the_input_file_alone(files):
    before = (files / "plain.keras").read_bytes()
    embed(files, "--new-key")
    assert (files / "plain.keras").read_bytes() == before
    plain, marked = (
        keras.saving.load_model(files / name) for name in ("plain.keras", "marked.keras")
    )
    assert not np.allclose(plain.get_weights()[0], marked.get_weights()[0])
