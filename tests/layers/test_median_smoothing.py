import keras
import numpy as np
import pytest
from harness_layers import run_layer_harness
from scipy import ndimage

from keras_secure import backend
from keras_secure.errors import InputError
from keras_secure.layers import MedianSmoothing

X = np.random.default_rng(0).random((4, 7, 6, 2)).astype("float32")


def test_harness(tmp_path):
    arguments = {"window": 3, "gradient": "exact"}
    run_layer_harness(MedianSmoothing, arguments, X, tmp_path, atol=1e-7)


@pytest.mark.parametrize("window", [2, 3, 4, 5, 7, (1, 3), (2, 5), (9, 1)])
def test_equals_the_median_of_every_window(window):
    rows, columns = (window, window) if isinstance(window, int) else window
    x = np.random.default_rng(1).random((2, 10, 11, 3)).astype("float32")
    # Ties and equal values, too.
    x[1] = np.round(x[1] * 3) / 3
    top, left = rows // 2, columns // 2
    around = ((0, 0), (top, rows - 1 - top), (left, columns - 1 - left), (0, 0))
    padded = np.pad(x, around, mode="reflect")
    expected = np.empty_like(x)
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            piece = padded[:, row : row + rows, column : column + columns]
            expected[:, row, column] = np.median(piece, axis=(1, 2))
    np.testing.assert_allclose(np.asarray(MedianSmoothing(window)(x)), expected, atol=1e-7)


def test_agrees_with_scipy():
    expected = ndimage.median_filter(X, size=(1, 3, 3, 1), mode="mirror")
    assert np.array_equal(np.asarray(MedianSmoothing(3)(X)), expected)


@pytest.mark.parametrize("window", [3, 2])
def test_exact_gradient_agrees_with_finite_differences(window):
    rng = np.random.default_rng(2)
    # All values far from each other, so that no step of the differences passes another.
    x = (rng.permutation(30).reshape(1, 5, 6, 1) / 30.0).astype("float64")
    weights = rng.normal(size=x.shape)
    layer = MedianSmoothing(window, dtype="float64")
    _, gradient = backend.input_gradient(lambda t: keras.ops.sum(weights * layer(t)), x)
    expected = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        moved = x.copy()
        moved[place] += 1e-4
        change = np.asarray(layer(moved)) - np.asarray(layer(x))
        expected[place] = (weights * change).sum() / 1e-4
    np.testing.assert_allclose(np.asarray(gradient), expected, atol=1e-8)


def test_gradient_of_ties_goes_to_one_pixel_each():
    _, gradient = backend.input_gradient(
        lambda t: keras.ops.sum(MedianSmoothing(3)(t)), np.full((1, 6, 6, 1), 0.5, "float32")
    )
    assert float(np.asarray(gradient).sum()) == 36.0


def test_straight_through_gradient_is_the_identity_and_values_are_the_same():
    layer = MedianSmoothing(3, gradient="straight_through")
    _, gradient = backend.input_gradient(lambda t: keras.ops.sum(X * layer(t)), X)
    assert np.array_equal(np.asarray(gradient), X)
    assert np.array_equal(np.asarray(layer(X)), np.asarray(MedianSmoothing(3)(X)))


@pytest.mark.parametrize("window", [1, 10, 2.5, True, (1, 1), (3,), "3"])
def test_a_wrong_window_is_refused(window):
    with pytest.raises(InputError, match="from 2 to 9"):
        MedianSmoothing(window)


def test_wrong_inputs_are_refused():
    with pytest.raises(InputError, match="straight_through"):
        MedianSmoothing(3, gradient="none")
    with pytest.raises(InputError, match="expected images"):
        MedianSmoothing(3)(np.zeros((2, 5), "float32"))
    with pytest.raises(InputError, match="smaller window"):
        MedianSmoothing(5)(np.zeros((2, 2, 5, 1), "float32"))
