import keras
import numpy as np
import pytest

from keras_secure.errors import InputError
from keras_secure.leakage import mislabelled_canaries

X = np.arange(60.0).reshape(30, 2)
Y = np.arange(30) % 3


def rows_of(inputs):
    return (inputs[:, 0] / 2).astype(int)


@pytest.mark.parametrize("shape", ["flat", "column", "one_hot"])
def test_every_label_is_wrong_and_no_example_used_twice(shape):
    y = {"flat": Y, "column": Y[:, None], "one_hot": keras.utils.to_categorical(Y, 3)}[shape]
    inputs, labels = mislabelled_canaries(X, y, 20, 3)
    assert labels.shape == (20, *y.shape[1:])
    assert labels.dtype == y.dtype
    rows = rows_of(inputs)
    assert len(set(rows)) == 20
    np.testing.assert_array_equal(inputs, X[rows])
    found = labels.argmax(axis=1) if shape == "one_hot" else labels.reshape(-1)
    assert not np.any(found == Y[rows])
    assert found.min() >= 0
    assert found.max() <= 2


def test_wrong_labels_are_drawn_evenly():
    x, y = np.zeros((6000, 1)), np.zeros(6000, int)
    _, labels = mislabelled_canaries(x, y, 6000, 4, seed=0)
    counts = np.bincount(labels, minlength=4)
    assert counts[0] == 0
    np.testing.assert_allclose(counts[1:], 2000, atol=4 * np.sqrt(6000 * 2 / 9))


def test_a_seed_repeats_and_none_does_not():
    first, again = (mislabelled_canaries(X, Y, 20, 3, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    fresh = [mislabelled_canaries(X, Y, 20, 3)[0] for _ in range(2)]
    assert not np.array_equal(*fresh)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((X, Y, 31, 3), "31 canaries"),
        ((X, Y, 0, 3), "0 canaries"),
        ((X, Y[:-1], 5, 3), "29 labels"),
        ((X, Y, 5, 1), "num_classes=1"),
        ((X, Y, 5, 2), "not those of 2 classes"),
        ((X, keras.utils.to_categorical(Y, 3), 5, 4), "not those of 4 classes"),
    ],
)
def test_refusals(args, words):
    with pytest.raises(InputError, match=words):
        mislabelled_canaries(*args)
