"""Banded noise inside fit: what the ledger says, when it starts anew, and what is refused."""

import keras
import numpy as np
import pytest

import keras_secure as ks
from keras_secure.errors import PrivacyError
from keras_secure.privacy import DeterministicPasses, PoissonSampling, UnstatedSampling

X = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
Y = X[:, :1]


def private(bands=4, **plan):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    secure = ks.SecureModel(model)
    values = {"l2_norm_clip": 1.0, "noise_multiplier": 2.0, "sampling": "deterministic", **plan}
    secure.compile(ks.optimizers.DPSGD(0.1, bands=bands, **values), loss="mse")
    return secure


def fit(secure, epochs=2, batch_size=8, **options):
    return secure.fit(X, Y, batch_size=batch_size, epochs=epochs, verbose=0, **options)


def phases(secure):
    optimizer = secure.optimizer
    return [(p.sampling, p.steps) for p in optimizer.ledger.phases(optimizer.executed_steps)]


def past(secure):
    return np.asarray(secure.optimizer._noise._past)


def test_the_ledger_records_bands_and_costs_what_independent_noise_costs():
    secure, plain = private(), private(bands=1)
    for one in (secure, plain):
        fit(one, epochs=3)
    assert phases(secure) == [(DeterministicPasses(4, bands=4), 12)]
    assert phases(plain) == [(DeterministicPasses(4), 12)]
    assert secure.optimizer.epsilon(1e-4) == plain.optimizer.epsilon(1e-4)
    copied = ks.optimizers.DPOptimizer.from_config(secure.optimizer.get_config())
    assert (copied.bands, copied.sampling) == (4, "deterministic")


def test_every_fit_is_a_phase_that_starts_anew():
    secure = private()
    fit(secure)
    assert past(secure).any()
    started = []

    class Watch(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            started.append(past(secure).copy())

    fit(secure, callbacks=[Watch()])
    assert not started[0].any()
    passes = DeterministicPasses(4, bands=4)
    assert phases(secure) == [(passes, 8), (passes, 8)]
    assert secure.optimizer.epsilon(1e-4) == pytest.approx(
        UnstatedSampling().loss_distribution(2.0, 4).get_epsilon_for_delta(1e-4), rel=1e-3
    )


def test_a_checkpoint_holds_neither_past_nor_key_and_starts_anew(tmp_path):
    secure = private()
    fit(secure)
    key, before = np.asarray(secure.optimizer._noise._key), past(secure).copy()
    secure.save_weights(tmp_path / "all.weights.h5")
    other = private()
    fit(other, epochs=1)
    fresh = private()
    fresh.build((None, 3))
    fresh.optimizer.build(fresh.trainable_variables)
    fresh.load_weights(tmp_path / "all.weights.h5")
    assert not past(fresh).any()
    assert not np.array_equal(key, np.asarray(fresh.optimizer._noise._key))
    fit(fresh)
    passes = DeterministicPasses(4, bands=4)
    assert phases(fresh) == [(passes, 8), (passes, 8)]
    written = (tmp_path / "all.weights.h5").read_bytes()
    for secret in (key.tobytes(), *(row.tobytes()[:32] for row in before)):
        assert secret not in written


def test_a_backup_goes_on_with_a_phase_of_its_own(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    backup = {"backup_dir": tmp_path / "backup", "save_freq": "epoch"}
    secure = private()
    with pytest.raises(KeyboardInterrupt):
        fit(secure, 4, callbacks=[keras.callbacks.BackupAndRestore(**backup), Stop()])
    again = private()
    fit(again, 4, callbacks=[keras.callbacks.BackupAndRestore(**backup)])
    passes = DeterministicPasses(4, bands=4)
    steps = [count for sampling, count in phases(again) if sampling == passes]
    assert sum(steps) == 16
    assert len(steps) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"sampling": None},
        {"sampling": "poisson"},
        {"sampling": "balls_in_bins"},
        {"sampling": PoissonSampling(0.1, 10)},
        {"sampling": UnstatedSampling()},
        {"sampling": DeterministicPasses(3)},
        {"bands": 0},
        {"bands": 2.0},
        {"bands": True},
    ],
)
def test_bands_without_separation_are_refused_at_once(options):
    with pytest.raises(PrivacyError, match="bands"):
        private(**options)


def test_bands_without_separation_are_refused_before_a_step():
    secure = private(bands=5)
    with pytest.raises(PrivacyError, match="at most 4 bands"):
        fit(secure)
    secure = private(expected_batch_size=8)
    with pytest.raises(PrivacyError, match=r"promise that.*train with fit"):
        secure.train_on_batch(X[:8], Y[:8])
    assert secure.optimizer.executed_steps == 0


@pytest.mark.parametrize("jit_compile", [False, True])
def test_adaptive_clipping_and_compilation(jit_compile):
    clipping = ks.privacy.AdaptiveClipping(count_stddev=6.0)
    secure = private(clipping=clipping, secure_noise=jit_compile)
    secure.compile(secure.optimizer, loss="mse", jit_compile=jit_compile)
    fit(secure)
    assert secure.optimizer.executed_steps == 8
    assert all(np.isfinite(weight).all() for weight in secure.get_weights())
