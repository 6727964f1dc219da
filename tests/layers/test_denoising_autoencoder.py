import keras
import numpy as np
import pytest
from harness_layers import run_layer_harness

from keras_secure import backend
from keras_secure.errors import InputError
from keras_secure.layers import DenoisingAutoencoder


@pytest.mark.parametrize("shape", [(4, 6, 5, 2), (4, 7)], ids=["images", "vectors"])
def test_harness(shape, tmp_path):
    x = np.random.default_rng(0).random(shape).astype("float32")
    arguments = {
        "hidden": [4],
        "kernel_size": 3,
        "stddev": 0.1,
        "bounds": [0.0, 1.0],
        "seed": 1,
    }
    run_layer_harness(DenoisingAutoencoder, arguments, x, tmp_path, atol=1e-5, has_weights=True)


def test_begins_near_the_identity_and_keeps_to_its_bounds():
    x = np.random.default_rng(0).uniform(0.1, 0.9, (8, 8, 8, 1)).astype("float32")
    purifier = DenoisingAutoencoder()
    assert np.abs(np.asarray(purifier(x)) - x).max() < 0.1
    outside = np.asarray(purifier(5 * x - 2))
    assert outside.min() == 0.0
    assert outside.max() == 1.0
    free = DenoisingAutoencoder(bounds=None)
    assert np.asarray(free(5 * x - 2)).min() < -0.5


@pytest.mark.parametrize("flat", [False, True], ids=["images", "vectors"])
def test_learns_to_take_noise_out(flat, digits):
    x = digits[0].reshape(-1, 64) if flat else digits[0]
    noise = np.random.default_rng(1).normal(0, 0.25, x[:300].shape).astype("float32")
    noisy = np.clip(x[:300] + noise, 0, 1)
    hidden = (128,) if flat else (16, 16)
    purifier = DenoisingAutoencoder(hidden=hidden, stddev=0.25, seed=2)
    purifier.compile(keras.optimizers.Adam(3e-3), loss="mse")
    purifier.fit(x[300:], x[300:], epochs=12, batch_size=64, verbose=0)
    before = np.mean((noisy - x[:300]) ** 2)
    after = np.mean((np.asarray(purifier(noisy)) - x[:300]) ** 2)
    assert after < 0.7 * before


def test_noise_is_added_in_training_only_and_attacked_inputs_need_none():
    x = np.full((64, 10), 0.5, "float32")
    purifier = DenoisingAutoencoder(hidden=(4,), stddev=0.3, seed=1)
    quiet, noisy = np.asarray(purifier(x)), np.asarray(purifier(x, training=True))
    assert np.ptp(quiet, axis=0).max() < 1e-6
    assert abs(noisy.std() / 0.3 - 1) < 0.15
    without = DenoisingAutoencoder(hidden=(4,))
    assert np.array_equal(np.asarray(without(x, training=True)), np.asarray(without(x)))


def test_gradients_pass_through_to_the_input():
    x = np.random.default_rng(0).uniform(0.2, 0.8, (2, 6)).astype("float32")
    purifier = DenoisingAutoencoder(hidden=(4,))
    _, gradient = backend.input_gradient(lambda t: keras.ops.sum(purifier(t)), x)
    np.testing.assert_allclose(np.asarray(gradient), 1.0, atol=0.2)
    # Also where outputs are clipped, or attacks would find nothing to follow.
    _, gradient = backend.input_gradient(lambda t: keras.ops.sum(purifier(t)), x - 2.0)
    np.testing.assert_allclose(np.asarray(gradient), 1.0, atol=0.2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden": ()}, "hidden"),
        ({"hidden": 32}, "hidden"),
        ({"hidden": (0,)}, "hidden"),
        ({"kernel_size": 0}, "kernel_size"),
        ({"stddev": -1}, "at least 0"),
        ({"bounds": (1, 0)}, "low < high"),
    ],
)
def test_wrong_arguments_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        DenoisingAutoencoder(**wrong)


def test_a_shape_that_is_not_known_is_refused():
    with pytest.raises(InputError, match="known size"):
        DenoisingAutoencoder().build((None, None, 3))
