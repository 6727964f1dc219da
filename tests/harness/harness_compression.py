"""What private training of a compressed model is held against."""

import keras
import numpy as np
import pytest

import keras_secure as ks
from keras_secure import backend
from keras_secure.errors import FallbackWarning

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def clipped_step(model, x, y, clip, training):
    """The slow truth: the trainable variables after one step of SGD without noise, rate 1.

    One backward pass for each example.
    """
    expected = [np.asarray(v, np.float64) for v in model.trainable_variables]
    for i in range(len(x)):

        def objective(i=i):
            return keras.ops.mean(LOSS(y[i : i + 1], model(x[i : i + 1], training=training))), None

        _, _, gradients = backend.gradients(objective, lambda: model.trainable_variables)
        gradients = [np.asarray(gradient, np.float64) for gradient in gradients]
        norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients))
        for value, gradient in zip(expected, gradients, strict=True):
            value -= min(1, clip / norm) * gradient / len(x)
    return expected


def check_private_step(model, x, y, clip, expected):
    """Takes the private step, which no rule covers, and compares."""
    secure = ks.SecureModel(model)
    optimizer = ks.optimizers.DPOptimizer(
        keras.optimizers.SGD(1.0),
        l2_norm_clip=clip,
        noise_multiplier=0.0,
        expected_batch_size=len(x),
    )
    secure.compile(optimizer, LOSS)
    with pytest.warns(FallbackWarning):
        secure.train_on_batch(x, y)
    for variable, value in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(np.asarray(variable), value, rtol=1e-4, atol=1e-5)
