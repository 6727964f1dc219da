"""A hurdle stops an attack that does not know it, and not one that does."""

import keras
import numpy as np
import pytest

from keras_secure import layers
from keras_secure.attacks import PGD, Expectation


@pytest.fixture(scope="module")
def classifier(digits):
    x, y = digits
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(5e-3), loss=loss)
    model.fit(x[200:], y[200:], epochs=12, batch_size=64, verbose=0)
    return model


@pytest.fixture(scope="module")
def unaware(classifier, digits):
    """Inputs that fool the classifier alone."""
    attack = PGD(0.15, steps=20, seed=0)
    return attack.run(classifier, digits[0][:80], digits[1][:80], verbose=0).x_adv


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "random"),
    [
        (layers.FeatureSqueezing(2), False),
        (layers.JPEGCompression(40), False),
        (layers.JPEGCompression(40, gradient="cubic"), False),
        (layers.MedianSmoothing(2), False),
        (layers.MedianSmoothing(2, gradient="straight_through"), False),
        (layers.RandomResizeAndPad(min_scale=0.8, seed=0), True),
    ],
    ids=["squeezing", "jpeg", "jpeg_cubic", "median", "median_straight_through", "resize"],
)
def test_the_layers_own_gradient_leads_attacks_through_it(
    layer, random, classifier, unaware, digits
):
    x, y = digits[0][:80], digits[1][:80]
    model = keras.Sequential([keras.Input((8, 8, 1)), layer, classifier])
    if random:
        model = Expectation(model, samples=10, from_logits=True)
    clean, met = (
        float(np.mean(model.predict(inputs, verbose=0).argmax(axis=1) == y))
        for inputs in (x, unaware)
    )
    attack = PGD(0.15, steps=20, seed=0)
    if random:
        # All steps, rather than up to the first draw that happens to be fooled.
        adaptive = np.asarray(attack.perturb(model, keras.ops.array(x), y, from_logits=True))
        left = float(np.mean(model.predict(adaptive, verbose=0).argmax(axis=1) == y))
    else:
        left = 1 - attack.run(model, x, y, from_logits=True, verbose=0).success.mean()
    assert clean > 0.35
    assert left < 0.6 * clean
    assert left < met


@pytest.mark.slow
def test_a_purifier_holds_up_an_attack_that_does_not_know_it_only(classifier, unaware, digits):
    x, y = digits
    purifier = layers.DenoisingAutoencoder(hidden=(16, 16), stddev=0.2, seed=0)
    purifier.compile(keras.optimizers.Adam(3e-3), loss="mse")
    purifier.fit(x[200:], x[200:], epochs=15, batch_size=64, verbose=0)
    guarded = keras.Sequential([keras.Input((8, 8, 1)), purifier, classifier])
    y = y[:80]
    accuracy = [
        float(np.mean(model.predict(inputs, verbose=0).argmax(axis=1) == y))
        for model, inputs in ((classifier, unaware), (guarded, unaware), (guarded, x[:80]))
    ]
    assert accuracy[1] > accuracy[0] + 0.1
    attack = PGD(0.15, steps=20, seed=0)
    left = 1 - attack.run(guarded, x[:80], y, from_logits=True, verbose=0).success.mean()
    assert accuracy[2] > 0.9
    assert left < accuracy[1]
