"""Adversarial and private training of models that train compressed."""

import keras
import numpy as np
import pytest

import keras_secure as ks
from keras_secure.compression import cluster_aware, quantize_aware, quantized_weights, strip
from keras_secure.errors import FallbackWarning

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


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


def per_example_gradients(model, x, y):
    """The slow truth: one backward pass for each example."""
    from keras_secure import backend

    rows = []
    for i in range(len(x)):

        def objective(i=i):
            return keras.ops.mean(LOSS(y[i : i + 1], model(x[i : i + 1], training=True))), None

        _, _, found = backend.gradients(objective, lambda: model.trainable_variables)
        rows.append([np.asarray(gradient, np.float64) for gradient in found])
    return rows


def test_private_training_clips_the_gradients_of_what_is_computed_with(digits):
    """Also those of the scales: one step without noise equals that of a loop over examples."""
    x, y = (array[:8] for array in digits)
    trained = quantize_aware(network(), 4)
    clip, learning_rate = 0.05, 1.0
    expected = [np.asarray(v, np.float64) for v in trained.trainable_variables]
    for gradients in per_example_gradients(trained, x, y):
        norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients))
        for value, gradient in zip(expected, gradients, strict=True):
            value -= learning_rate * min(1, clip / norm) * gradient / len(x)
    secure = ks.SecureModel(trained)
    optimizer = ks.optimizers.DPOptimizer(
        keras.optimizers.SGD(learning_rate),
        l2_norm_clip=clip,
        noise_multiplier=0.0,
        expected_batch_size=len(x),
    )
    secure.compile(optimizer, LOSS)
    with pytest.warns(FallbackWarning):
        secure.train_on_batch(x, y)
    for variable, value in zip(trained.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(np.asarray(variable), value, rtol=1e-4, atol=1e-5)
    assert len(quantized_weights(strip(trained))) == 2
