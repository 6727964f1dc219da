"""Keys that seal ledgers."""

import hashlib
import hmac
import os
import pickle
import stat

import pytest

from keras_secure.errors import InputError
from keras_secure.privacy import LedgerKey


def test_generated_keys_differ_and_load_again(tmp_path):
    key = LedgerKey.generate(tmp_path / "one.key")
    other = LedgerKey.generate(tmp_path / "other.key")
    loaded = LedgerKey.load(tmp_path / "one.key")
    assert stat.S_IMODE((tmp_path / "one.key").stat().st_mode) == 0o600
    assert loaded.mac(b"text") == key.mac(b"text") != other.mac(b"text")
    assert loaded.fits(b"text", key.mac(b"text"))
    assert not loaded.fits(b"text", other.mac(b"text"))
    assert not loaded.fits(b"texts", key.mac(b"text"))
    assert not loaded.fits(b"text", None)
    assert LedgerKey.load(key) is key


def test_mac_is_hmac_sha256():

    secret = bytes(range(32))
    expected = hmac.digest(secret, b"abc", hashlib.sha256).hex()
    assert LedgerKey(secret).mac(b"abc") == expected


def test_the_secret_stays_secret():
    key = LedgerKey(b"s" * 32)
    assert "s" * 32 not in repr(key)
    assert "73" * 32 not in repr(key)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key)


def test_refusals(tmp_path):
    path = tmp_path / "ledger.key"
    LedgerKey.generate(path)
    with pytest.raises(InputError, match="was kept"):
        LedgerKey.generate(path)
    with pytest.raises(InputError, match="cannot be written"):
        LedgerKey.generate(tmp_path / "missing" / "ledger.key")
    with pytest.raises(InputError, match="No ledger key can be read"):
        LedgerKey.load(tmp_path / "missing.key")
    with pytest.raises(InputError, match=r"give a LedgerKey or the path"):
        LedgerKey.load(b"s" * 32)
    with pytest.raises(InputError, match="at least 32"):
        LedgerKey(b"short")
    path.write_text("not a key")
    with pytest.raises(InputError, match="No ledger key can be read"):
        LedgerKey.load(path)


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
def test_keys_open_to_others_are_refused(tmp_path):
    path = tmp_path / "ledger.key"
    LedgerKey.generate(path)
    for mode in (0o640, 0o604, 0o620):
        path.chmod(mode)
        with pytest.raises(InputError, match="chmod 600"):
            LedgerKey.load(path)
