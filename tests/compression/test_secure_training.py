"""Adversarial and private training of models that train compressed."""

import keras
import numpy as np
import pytest
from harness_compression import LOSS, check_private_step, clipped_step

import keras_secure as ks
from keras_secure.compression import cluster_aware, quantize_aware, quantized_weights, strip


def network():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda model: quantize_aware(model, 2),
        pytest.param(lambda model: cluster_aware(model, 8), marks=pytest.mark.slow),
    ],
    ids=["quantized", "clustered"],
)
def test_adversarial_training_composes(digits, make):
    x, y = digits
    trained = make(network())
    attack = ks.attacks.PGD(0.05, steps=3)
    secure = ks.SecureModel(trained, objective=ks.objectives.AdversarialTraining(attack))
    secure.compile(keras.optimizers.Adam(0.01), LOSS, metrics=["accuracy"])
    history = secure.fit(x[400:], y[400:], batch_size=64, epochs=4, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    stripped = strip(secure.model)
    np.testing.assert_array_equal(
        stripped.predict(x[:64], verbose=0), trained.predict(x[:64], verbose=0)
    )


def test_private_training_clips_the_gradients_of_what_is_computed_with(digits):
    """Also those of the scales: one step without noise equals that of a loop over examples."""
    x, y = (array[:8] for array in digits)
    trained = quantize_aware(network(), 4)
    expected = clipped_step(trained, x, y, 0.05, training=True)
    check_private_step(trained, x, y, 0.05, expected)
    assert len(quantized_weights(strip(trained))) == 2
