import base64
import hashlib
import os
import shutil
import stat
import subprocess

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
from keras_secure.integrity.keys import KINDS, is_signed_by, kind_of, sign_bytes


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


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_signs_and_survives_its_files(tmp_path, kind):
    private_key, public_key = generate_key_pair(kind)
    assert kind_of(private_key) == kind_of(public_key) == kind
    save_public_key(public_key, tmp_path / "public.pem")
    save_private_key(private_key, tmp_path / "plain.pem")
    save_private_key(private_key, tmp_path / "locked.pem", "passphrase")
    assert load_public_key(tmp_path / "public.pem") == public_key
    other = generate_key_pair(kind)[1]
    assert fingerprint(other) != fingerprint(public_key)
    for loaded in (
        load_private_key(tmp_path / "plain.pem"),
        load_private_key(tmp_path / "locked.pem", b"passphrase"),
    ):
        signature = sign_bytes(loaded, b"data")
        assert is_signed_by(public_key, signature, b"data")
        assert not is_signed_by(public_key, signature, b"Data")
        assert not is_signed_by(other, signature, b"data")
        for wrong in (b"", signature[:-1], signature + b"x", bytes(len(signature))):
            assert not is_signed_by(public_key, wrong, b"data")


def test_neither_half_of_a_hybrid_signature_is_enough():
    private_key, public_key = generate_key_pair("hybrid")
    forger = generate_key_pair("hybrid")[0]
    signature, forged = sign_bytes(private_key, b"data"), sign_bytes(forger, b"data")
    post_quantum = len(signature) - 64
    assert not is_signed_by(public_key, signature[:post_quantum] + forged[post_quantum:], b"data")
    assert not is_signed_by(public_key, forged[:post_quantum] + signature[post_quantum:], b"data")
    # The half that is left after dropping the other is no signature of the data at all.
    assert not is_signed_by(public_key.ed25519, signature[post_quantum:], b"data")


def test_passphrase(tmp_path):
    private_key, _ = generate_key_pair()
    path = save_private_key(private_key, tmp_path / "key.pem", passphrase="correct horse")
    assert b"ENCRYPTED" in path.read_bytes()
    assert load_private_key(path, "correct horse").sign(b"x") == private_key.sign(b"x")
    with pytest.raises(InputError, match=r"key\.pem is encrypted; give the passphrase"):
        load_private_key(path)
    with pytest.raises(InputError, match=r"passphrase of .*key\.pem is wrong"):
        load_private_key(path, "wrong horse")
    with pytest.raises(InputError, match="empty"):
        save_private_key(private_key, tmp_path / "other.pem", passphrase="")
    with pytest.raises(InputError, match="is not encrypted"):
        load_private_key(save_private_key(private_key, tmp_path / "plain.pem"), "needless")


def test_guessing_a_passphrase_costs_what_it_should_today(tmp_path):
    path = save_private_key(generate_key_pair()[0], tmp_path / "key.pem", "passphrase")
    der = base64.b64decode(b"".join(path.read_bytes().splitlines()[1:-1]))
    # The number of rounds, as a DER integer (RFC 8018, appendix A.2).
    assert b"\x02\x03" + (600_000).to_bytes(3, "big") in der


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command is not here")
def test_openssl_reads_an_encrypted_key_and_prints_our_fingerprint(tmp_path):
    private_key, public_key = generate_key_pair("ec-p256")
    path = save_private_key(private_key, tmp_path / "key.pem", "passphrase")
    command = ["openssl", "pkey", "-in", path, "-passin", "pass:passphrase", "-pubout"]
    der = subprocess.run([*command, "-outform", "DER"], capture_output=True, check=True).stdout
    assert fingerprint(public_key) == "sha256:" + hashlib.sha256(der).hexdigest()


def test_what_is_not_a_key_is_refused(tmp_path):
    private_key, public_key = generate_key_pair()
    private = save_private_key(private_key, tmp_path / "private.pem")
    public = save_public_key(public_key, tmp_path / "public.pem")
    (tmp_path / "large").write_bytes(bytes(2**17))
    for load, wrong, cause in [
        (load_public_key, private, "holds a private key"),
        (load_public_key, private_key, "cannot be used as public key"),
        (load_private_key, public, "holds a public key, with which nobody can sign"),
        (load_private_key, public_key, "cannot be used as private key"),
        (load_public_key, b"\xff", "no key in PEM form"),
        (load_private_key, b"", "nothing"),
        (load_public_key, tmp_path / "nothing", "cannot be read"),
        (load_private_key, tmp_path, "cannot be read"),
        (load_public_key, tmp_path / "large", "too large"),
        (load_public_key, 7, "cannot be used as public key"),
        (load_private_key, private.read_bytes()[:60] + private.read_bytes()[61:], "private key"),
    ]:
        with pytest.raises(InputError, match=cause):
            load(wrong)


def test_other_algorithms_are_refused():
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, x25519

    for key in (ec.generate_private_key(ec.SECP384R1()), x25519.X25519PrivateKey.generate()):
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        with pytest.raises(InputError, match="expected an Ed25519, an EC P-256 or a hybrid"):
            load_private_key(private)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(InputError, match="X25519PublicKey; expected an Ed25519"):
        load_public_key(public)
    with pytest.raises(InputError, match="no kind of key 'rsa'"):
        generate_key_pair("rsa")
