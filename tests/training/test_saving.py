"""What is saved loads again, with the ledger; the inner model loads without this library."""

import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest
from keras import layers

import keras_secure as ks

X = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")


def trained(optimizer, objective=None):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, "relu"), layers.Dense(2)])
    secure = ks.SecureModel(model, objective=objective)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    secure.compile(optimizer, loss=loss, metrics=["accuracy"])
    secure.fit(X, Y, batch_size=8, verbose=0)
    return secure


def dp():
    return ks.optimizers.DPAdam(0.01, l2_norm_clip=1.0, noise_multiplier=4.0)


@pytest.mark.parametrize("make", [lambda: keras.optimizers.Adam(0.01), dp])
def test_round_trip_with_optimizer_state(make, tmp_path):
    trades = ks.objectives.TRADES(ks.attacks.PGD(epsilon=0.1, steps=2), beta=2.0)
    secure = trained(make(), trades)
    secure.save(tmp_path / "secure.keras")
    loaded = keras.models.load_model(tmp_path / "secure.keras")
    assert type(loaded) is ks.SecureModel
    assert loaded.objective.beta == 2.0
    assert loaded.objective.attack.get_config() == trades.attack.get_config()
    np.testing.assert_allclose(loaded.predict(X, verbose=0), secure.predict(X, verbose=0))
    for own, restored in zip(secure.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(own), np.asarray(restored))
    if make is dp:
        assert loaded.optimizer.executed_steps == 5
        assert loaded.optimizer.epsilon(1e-3) == secure.optimizer.epsilon(1e-3)
        assert loaded.optimizer.ledger.run_id == secure.optimizer.ledger.run_id
    history = loaded.fit(X, Y, batch_size=8, verbose=0).history
    assert sorted(history) == ["accuracy", "loss"]
    if make is dp:
        assert loaded.optimizer.executed_steps == 10


def test_older_weights_are_refused_and_newest_accepted(tmp_path):
    secure = trained(dp())
    secure.save_weights(tmp_path / "older.weights.h5")
    secure.fit(X, Y, batch_size=8, verbose=0)
    secure.save_weights(tmp_path / "newest.weights.h5")
    with pytest.raises(ValueError, match="newest checkpoint"):  # Keras gathers loading errors
        secure.load_weights(tmp_path / "older.weights.h5")
    secure.load_weights(tmp_path / "newest.weights.h5")
    assert secure.optimizer.executed_steps == 10


def restored(optimizer=None):
    """A built model of the same shape, for weights to be loaded into."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, "relu"), layers.Dense(2)])
    secure = ks.SecureModel(model)
    secure.compile(optimizer or dp(), loss=keras.losses.SparseCategoricalCrossentropy(True))
    secure(X[:1])
    secure.optimizer.build(model.trainable_variables)
    return secure


def test_reports_speak_of_all_phases():
    secure = trained(dp())
    secure.fit(X, Y, batch_size=20, verbose=0)
    optimizer = secure.optimizer
    phases = optimizer.ledger.phases(optimizer.executed_steps)
    assert [phase.steps for phase in phases] == [5, 2]
    assert optimizer.epsilon(1e-3) == ks.privacy.epsilon(phases, 1e-3)
    assert optimizer.epsilon(1e-3) < optimizer.epsilon(1e-3, accountant="rdp")
    assert optimizer.epsilon(1e-3) < optimizer.epsilon(1e-3, max_examples_per_user=2)
    assert optimizer.delta(optimizer.epsilon(1e-3)) == pytest.approx(1e-3, rel=1e-3)
    epsilons, deltas = optimizer.privacy_curve([1e-3, 1e-2])
    assert list(epsilons) == [optimizer.epsilon(delta) for delta in deltas]
    text = optimizer.privacy_statement(1e-3)
    assert text == ks.privacy.privacy_statement(phases, 1e-3)
    assert "7 steps in 2 phases" in text


def test_public_pretraining_costs_nothing_and_is_no_phase():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, "relu"), layers.Dense(2)])
    secure = ks.SecureModel(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    public = np.random.default_rng(1).normal(size=(40, 4)).astype("float32")
    secure.compile("adam", loss=loss)
    secure.fit(public, (public[:, 0] > 0).astype("int32"), verbose=0)
    pretrained = [np.array(value) for value in model.get_weights()]
    secure.compile(dp(), loss=loss)
    assert secure.optimizer.epsilon(1e-3) == 0.0
    for before, now in zip(pretrained, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, now)
    secure.fit(X, Y, batch_size=8, verbose=0)
    assert secure.optimizer.epsilon(1e-3) == trained(dp()).optimizer.epsilon(1e-3)
    # Only this way round: private weights are not trained on without privacy.
    with pytest.raises(ks.errors.PrivacyError, match="further steps without privacy"):
        secure.compile("adam", loss=loss)


def test_sealed_ledgers_load_under_their_key_only(tmp_path):
    key = ks.privacy.LedgerKey.generate(tmp_path / "ledger.key")
    secure = trained(dp())
    secure.optimizer.seal_ledger(tmp_path / "ledger.key")
    secure.save_weights(tmp_path / "sealed.weights.h5")
    for path in tmp_path.glob("*.h5"):
        secret = (tmp_path / "ledger.key").read_text().strip()
        assert bytes.fromhex(secret) not in path.read_bytes()
        assert secret.encode() not in path.read_bytes()
    loaded = restored()
    loaded.load_weights(tmp_path / "sealed.weights.h5")
    loaded.optimizer.seal_ledger(key)
    assert loaded.optimizer.executed_steps == 5
    loaded = restored()
    loaded.optimizer.seal_ledger(ks.privacy.LedgerKey(b"x" * 32))
    with pytest.raises(ValueError, match="not sealed by the given key"):
        loaded.load_weights(tmp_path / "sealed.weights.h5")


def test_an_edited_ledger_is_refused(tmp_path):
    secure = trained(dp())
    path = tmp_path / "state.weights.h5"
    secure.save_weights(path)

    def edit(old, new):
        with h5py.File(path, "r+") as file:
            found = []
            file.visititems(lambda n, v: found.append(n) if n.endswith("/ledger") else None)
            (name,) = found
            text = file[name][()].tobytes()
            assert old in text
            del file[name]
            file[name] = np.frombuffer(text.replace(old, new), dtype=np.uint8)

    edit(b'"noise_multiplier": 4.0', b'"noise_multiplier": 3.0')
    with pytest.raises(ValueError, match="it was altered"):
        restored().load_weights(path)
    edit(b'"noise_multiplier": 3.0', b'"noise_multiplier": 4.0')
    loaded = restored()
    loaded.load_weights(path)
    assert loaded.optimizer.executed_steps == 5


def test_a_torn_file_never_loads_with_fewer_steps(tmp_path):
    """What Keras itself was writing when the process was killed: refused, at every length."""
    secure = trained(dp())
    path = tmp_path / "state.weights.h5"
    secure.save_weights(path)
    data = path.read_bytes()
    for cut in [*range(0, len(data), max(1, len(data) // 60)), len(data) - 1]:
        path.write_bytes(data[:cut])
        loaded = restored()
        with pytest.raises((OSError, ValueError, KeyError)):
            loaded.load_weights(path)
        assert loaded.optimizer.executed_steps == 0


def test_inner_model_loads_where_this_library_is_not(tmp_path):
    secure = trained(dp())
    secure.model.save(tmp_path / "inner.keras")
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", secure.predict(X, verbose=0))
    script = (
        "import sys; sys.modules['keras_secure'] = None\n"
        "import keras, numpy as np\n"
        "model = keras.models.load_model('inner.keras')\n"
        "np.testing.assert_allclose(model.predict(np.load('x.npy'), verbose=0), np.load('y.npy'),"
        " rtol=1e-5, atol=1e-6)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
