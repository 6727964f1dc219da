"""What is saved loads again, with the ledger; the inner model loads without this library."""

import subprocess
import sys

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
    return ks.optimizers.DPAdam(0.01, l2_norm_clip=1.0, noise_multiplier=1.0)


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
