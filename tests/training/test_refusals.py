"""What training cannot use is refused, and the message says what to do. See also test_traps.py."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_secure as ks
from keras_secure.errors import InputError, PrivacyError

X = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
Y = (X[:, :1] > 0).astype("float32")


def plan():
    return ks.optimizers.DPSGD(0.1, l2_norm_clip=1.0, noise_multiplier=1.0)


def private():
    secure = ks.SecureModel(keras.Sequential([keras.Input((4,)), layers.Dense(1)]))
    secure.compile(plan(), loss="mse")
    return secure


def fit(secure, **options):
    return secure.fit(X, Y, **{"batch_size": 8, "verbose": 0, **options})


def test_unknown_distribution_strategies_are_refused():
    strategy = tf.distribute.experimental.CentralStorageStrategy()
    with strategy.scope():
        secure = private()
    with pytest.raises(PrivacyError, match=r"CentralStorage.*MirroredStrategy"):
        fit(secure)


def test_two_kinds_of_metrics_are_refused():
    secure = ks.SecureModel(keras.Sequential([keras.Input((4,)), layers.Dense(1)]))
    with pytest.raises(PrivacyError, match="either `metrics` or `weighted_metrics`"):
        secure.compile(plan(), loss="mse", metrics=["mae"], weighted_metrics=["mse"])


@pytest.mark.parametrize("size", [-3, 41])
def test_impossible_batch_sizes_are_refused(size):
    with pytest.raises(InputError, match="between 1 and 40"):
        fit(private(), batch_size=size)


def test_arrays_that_do_not_fit_together_are_refused():
    with pytest.raises(InputError, match=r"different numbers of examples: \[39, 40\]"):
        private().fit(X, Y[:39], verbose=0)
    with pytest.raises(InputError, match="leaves no examples"):
        fit(private(), validation_split=0.999)
    with pytest.raises(InputError, match=r"class_weight lacks the classes"):
        fit(private(), class_weight={0: 1.0})
