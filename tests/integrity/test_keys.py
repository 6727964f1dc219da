import hashlib
import os
import stat

import pytest

from keras_secure.errors import InputError
from keras_secure.integrity import (
    fingerprint,
    generate_key_pair,
    load_private_key,
    load_public_key,
    save_private_key,
    save_public_key,
)


def test_keys_survive_their_files(tmp_path):
    private_key, public_key = generate_key_pair()
    save_private_key(private_key, tmp_path / "private.pem")
    save_public_key(public_key, tmp_path / "public.pem")
    loaded = load_private_key(tmp_path / "private.pem")
    assert load_public_key(str(tmp_path / "public.pem")) == loaded.public_key() == public_key
    assert fingerprint((tmp_path / "public.pem").read_bytes()) == fingerprint(public_key)
    assert load_private_key((tmp_path / "private.pem").read_bytes()).sign(b"x") == (
        private_key.sign(b"x")
    )


def test_pairs_differ():
    assert len({fingerprint(generate_key_pair()[1]) for _ in range(5)}) == 5


def test_fingerprint_is_the_digest_of_the_standard_encoding():
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    raw = bytes(range(32))
    # RFC 8410 section 4: SubjectPublicKeyInfo of Ed25519 is this header and the 32 key bytes.
    der = bytes.fromhex("302a300506032b6570032100") + raw
    key = Ed25519PublicKey.from_public_bytes(raw)
    assert fingerprint(key) == "sha256:" + hashlib.sha256(der).hexdigest()


@pytest.mark.skipif(os.name == "nt", reason="POSIX permission bits")
def test_only_the_owner_can_read_a_private_key_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        path = save_private_key(generate_key_pair()[0], tmp_path / "new.pem")
        save_private_key(generate_key_pair()[0], path, overwrite=True)
        other = save_private_key(generate_key_pair()[0], tmp_path / "other.pem")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(other.stat().st_mode) == 0o600


def test_an_existing_key_is_kept_unless_asked(tmp_path):
    path = tmp_path / "key.pem"
    first, second = generate_key_pair()[0], generate_key_pair()[0]
    save_private_key(first, path)
    with pytest.raises(InputError, match="exists and was kept"):
        save_private_key(second, path)
    with pytest.raises(InputError, match="exists and was kept"):
        save_public_key(second.public_key(), path)
    assert load_private_key(path).sign(b"x") == first.sign(b"x")
    save_private_key(second, path, overwrite=True)
    assert load_private_key(path).sign(b"x") == second.sign(b"x")
    assert os.listdir(tmp_path) == ["key.pem"]


def test_passphrase(tmp_path):
    private_key, _ = generate_key_pair()
    path = save_private_key(private_key, tmp_path / "key.pem", passphrase="correct horse")
    assert b"ENCRYPTED" in path.read_bytes()
    assert load_private_key(path, "correct horse").sign(b"x") == private_key.sign(b"x")
    for wrong in (None, "wrong horse"):
        with pytest.raises(InputError, match="passphrase"):
            load_private_key(path, wrong)
    with pytest.raises(InputError, match="empty"):
        save_private_key(private_key, tmp_path / "other.pem", passphrase="")
    with pytest.raises(InputError, match="unencrypted"):
        load_private_key(save_private_key(private_key, tmp_path / "plain.pem"), "needless")


def test_what_is_not_a_key_is_refused(tmp_path):
    private_key, public_key = generate_key_pair()
    private = save_private_key(private_key, tmp_path / "private.pem")
    public = save_public_key(public_key, tmp_path / "public.pem")
    for load, wrong in [
        (load_public_key, private),
        (load_public_key, private_key),
        (load_private_key, public),
        (load_private_key, public_key),
        (load_public_key, b"\xff"),
        (load_private_key, b""),
        (load_public_key, tmp_path / "nothing"),
        (load_private_key, tmp_path),
        (load_public_key, 7),
    ]:
        with pytest.raises(InputError, match="key"):
            load(wrong)


def test_other_algorithms_are_refused():
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(InputError, match="Ed25519 private key was expected"):
        load_private_key(private)
    with pytest.raises(InputError, match="Ed25519 public key was expected"):
        load_public_key(public)
