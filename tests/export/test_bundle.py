import gc
import shutil

import keras
import numpy as np
import pytest

from keras_secure.errors import InputError, IntegrityError
from keras_secure.export import export_hardened, open_bundle
from keras_secure.integrity import generate_identity, generate_key_pair, repair

PRIVATE_KEY, PUBLIC_KEY = generate_key_pair()
ROWS = np.random.default_rng(0).random((3, 40)).astype("float32")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(60), keras.layers.Dense(2)])
    folder = tmp_path_factory.mktemp("bundle")
    bundle = export_hardened(model, folder / "bundle", private_key=PRIVATE_KEY, parity=0.5)
    return bundle, model.predict(ROWS, verbose=0)


def test_a_damaged_bundle_comes_back_from_its_parity(made, tmp_path):
    bundle, expected = made
    assert bundle.verify().ok
    copy = tmp_path / "copy"
    shutil.copytree(bundle.path, copy)
    graph = copy / "saved_model" / "saved_model.pb"
    data = bytearray(graph.read_bytes())
    data[1000:1200] = bytes(200)
    graph.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"saved_model\.pb' was changed"):
        open_bundle(copy, PUBLIC_KEY)
    repair(copy, PUBLIC_KEY)
    served = open_bundle(copy, PUBLIC_KEY).load()(ROWS)
    np.testing.assert_allclose(served["predictions"], expected, atol=1e-5)


@pytest.mark.parametrize("how", ["passphrase", "key", "identity"])
def test_an_encrypted_bundle_opens_for_its_holder_alone(made, tmp_path, how):
    bundle, expected = made
    if how == "identity":
        pytest.importorskip("pyrage")
        recipient = generate_identity(tmp_path / "identity")
        lock, opener = {"recipients": recipient}, {"identities": tmp_path / "identity"}
        wrong = {"identities": tmp_path / "other"}
        generate_identity(tmp_path / "other")
    elif how == "key":
        lock = opener = {"key": bytes(range(32))}
        wrong = {"key": bytes(32)}
    else:
        lock, opener = {"passphrase": "correct", "work_factor": 10}, {"passphrase": "correct"}
        wrong = {"passphrase": "wrong"}
    sealed = bundle.encrypt(tmp_path / "bundle.sealed", **lock)
    assert b"model_card" not in sealed.read_bytes()
    opened = open_bundle(sealed, PUBLIC_KEY, **opener)
    np.testing.assert_allclose(opened.load()(ROWS)["predictions"], expected, atol=1e-5)
    assert opened.verify().ok
    assert opened.card == bundle.card
    with pytest.raises((IntegrityError, InputError)):
        open_bundle(sealed, PUBLIC_KEY, **wrong)
    with pytest.raises(IntegrityError, match="not trusted"):
        open_bundle(sealed, generate_key_pair()[1], **opener)
    folder = opened.path
    assert folder.is_dir()
    del opened
    gc.collect()
    assert not folder.exists()


def test_without_a_key_there_is_nothing_to_verify(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(InputError, match="without a key"):
        export_hardened(model, tmp_path / "bundle").verify()
