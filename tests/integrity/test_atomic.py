"""Writing whole files: names as long as they may be, and places where nothing can be written."""

import os

import pytest

from keras_secure.errors import InputError
from keras_secure.integrity import (
    Trust,
    endorse,
    generate_identity,
    generate_key_pair,
    repair,
    save_private_key,
    save_public_key,
    save_trust,
    sign,
    verify,
)
from keras_secure.integrity.atomic import write_atomically

LEFTOVER = "0123456789abcdef.part"


@pytest.mark.parametrize("letter", ["x", "é", "𝄞"])
def test_names_as_long_as_they_may_be(letter, tmp_path):
    # 255 bytes are allowed, and the signature's name is the file's and ".parity".
    file = tmp_path / (letter * ((255 - len(".parity")) // len(letter.encode())))
    file.write_bytes(bytes(100))
    private_key, public_key = generate_key_pair()
    sign(file, private_key, parity=2)
    file.write_bytes(b"damaged")
    assert repair(file, public_key).ok
    assert verify(file, public_key).ok
    assert file.read_bytes() == bytes(100)
    assert len(list(tmp_path.iterdir())) == 3


def test_what_was_wrong_is_said_and_not_what_was_wrong_with_cleaning_up(tmp_path):
    with pytest.raises(OSError, match="too long"):
        write_atomically(tmp_path / ("x" * 300), b"")


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_a_place_that_cannot_be_written_is_named(folder, tmp_path):
    (tmp_path / "file").write_bytes(b"1")
    private_key, public_key = generate_key_pair()
    place = tmp_path / folder / "out"
    for write in (
        lambda: save_private_key(private_key, place),
        lambda: save_private_key(private_key, place, overwrite=True),
        lambda: save_public_key(public_key, place),
        lambda: save_trust(Trust((public_key,)), place),
        lambda: endorse(public_key, generate_key_pair()[0], output=place),
        lambda: generate_identity(place),
        lambda: sign(tmp_path / "file", private_key, signature=place),
    ):
        with pytest.raises(InputError, match=r"/out cannot be written: .* folder that exists"):
            write()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_signing_left_is_not_signed(tmp_path):
    private_key, public_key = generate_key_pair()
    (tmp_path / "weights").write_bytes(b"123")
    for name in ("model.sig", "model.parity"):
        (tmp_path / f".{name}.{LEFTOVER}").write_bytes(b"begun")
    # The files of others are theirs, whatever they look like.
    (tmp_path / f".weights.{LEFTOVER}").write_bytes(b"kept")
    sign(tmp_path, private_key)
    kept = {"model.sig", "weights", f".weights.{LEFTOVER}"}
    assert set(os.listdir(tmp_path)) == kept
    assert verify(tmp_path, public_key).ok


def test_far_too_much_parity_is_refused_before_it_is_computed(tmp_path):
    (tmp_path / "weights").write_bytes(b"123")
    private_key, _ = generate_key_pair()
    with pytest.raises(InputError, match=r"parity=10+ was given for 1 shards .* at most 128"):
        sign(tmp_path, private_key, parity=10**14)
    assert os.listdir(tmp_path) == ["weights"]
