"""Whoever has everything that training wrote to the disk cannot remove the noise again."""

import io
import json
import zipfile

import keras
import numpy as np
import pytest

import keras_secure as ks

STEPS, CLIP, NOISE, BATCH = 8, 0.5, 2.0, 8
# All gradients are zero, so what moves the weights is noise and nothing else.
X, Y = np.zeros((32, 4), "float32"), np.zeros((32, 300), "float32")

KINDS = {
    "default": {},
    "secure": {"secure_noise": True},
    "banded": {"bands": 4},
    "secure and banded": {"bands": 4, "secure_noise": True},
}


def private(**plan):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(300, use_bias=False)])
    secure = ks.SecureModel(model)
    values = {"l2_norm_clip": CLIP, "noise_multiplier": NOISE, "sampling": "deterministic", **plan}
    secure.compile(ks.optimizers.DPSGD(1.0, **values), loss="mse")
    return secure


class Weights(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.noted = []

    def on_train_batch_end(self, batch, logs=None):
        self.noted.append(self.model.model.get_weights()[0].ravel())


def noise_of(secure, callbacks=()):
    """Trains; returns the noise of every step in units of its scale."""
    weights = Weights()
    before = secure.model.get_weights()[0].ravel()
    epochs = STEPS * BATCH // len(X)
    secure.fit(X, Y, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=[weights, *callbacks])
    moved = np.diff(np.array([before, *weights.noted]), axis=0)
    return -moved.astype("float64") * BATCH / (CLIP * NOISE)


def residual(noise, guess):
    """The smallest error, over steps, of the best multiple of any guessed step."""
    found = []
    for step in noise:
        for other in guess:
            factor = step @ other / (other @ other)
            found.append(np.std(step - factor * other))
    return min(found)


def contents(folder):
    """Every file below `folder`, those inside archives unpacked."""
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            yield path.name, data
            if zipfile.is_zipfile(io.BytesIO(data)):
                archive = zipfile.ZipFile(io.BytesIO(data))
                yield from ((name, archive.read(name)) for name in archive.namelist())


def save_everything(secure, folder):
    optimizer = secure.optimizer
    secure.save(folder / "secure.keras")
    secure.model.save(folder / "inner.keras")
    secure.save_weights(folder / "all.weights.h5")
    ledger = optimizer.ledger.to_json(optimizer.executed_steps)
    (folder / "ledger.json").write_text(ledger)
    config = {"optimizer": optimizer.get_config(), "compile": secure.get_compile_config()}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("kind", KINDS)
def test_replaying_what_was_saved_leaves_the_noise(kind, tmp_path):
    plan = KINDS[kind]
    secure = private(**plan)
    written = [
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    noise = noise_of(secure, written)
    save_everything(secure, tmp_path)
    # The first of banded steps has a little more: one over the first coefficient.
    assert 0.85 < np.std(noise[0]) < (1.45 if "bands" in plan else 1.15)

    def from_file():
        return keras.saving.load_model(tmp_path / "secure.keras")

    def from_checkpoint():
        fresh = private(**plan)
        fresh.build((None, 4))
        fresh.optimizer.build(fresh.trainable_variables)
        fresh.load_weights(tmp_path / "1.weights.h5")
        return fresh

    def from_config():
        fresh = private(**plan)
        config = json.loads((tmp_path / "config.json").read_text())["optimizer"]
        fresh.compile(ks.optimizers.DPOptimizer.from_config(config), loss="mse")
        return fresh

    for replay in (from_file, from_checkpoint, from_config):
        assert residual(noise, noise_of(replay())) > 0.85
    secrets = [np.asarray(secure.optimizer._noise._key).tobytes()]
    if "bands" in plan:
        secrets += [row.tobytes()[:64] for row in np.asarray(secure.optimizer._noise._past)]
    words = [str(int(word)).encode() for word in np.asarray(secure.optimizer._noise._key)]
    for name, data in contents(tmp_path):
        for secret in (*secrets, *words):
            assert secret not in data, name


def test_the_test_finds_noise_that_can_be_replayed():
    first, second = (noise_of(private(seed=3)) for _ in range(2))
    assert residual(first, second) < 1e-3


def test_known_noise_of_all_steps_before_tells_little_of_the_next():
    """Banded noise is correlated; even so a step's own draw, of the full scale, stays unknown."""
    noise = noise_of(private(bands=4))
    for step in range(1, STEPS):
        past = noise[max(0, step - 6) : step].T
        factors = np.linalg.lstsq(past, noise[step], rcond=None)[0]
        assert np.std(noise[step] - past @ factors) > 0.9
    assert abs(np.corrcoef(noise[4], noise[5])[0, 1]) > 0.2
