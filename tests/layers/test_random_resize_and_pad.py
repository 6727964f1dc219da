import keras
import numpy as np
import pytest
from harness_layers import run_layer_harness

from keras_secure import backend
from keras_secure.errors import InputError
from keras_secure.layers import RandomResizeAndPad

X = np.random.default_rng(0).random((5, 8, 10, 2)).astype("float32")


@pytest.mark.parametrize(("active", "output_size"), [("inference", None), ("training", (12, 11))])
def test_harness(active, output_size, tmp_path):
    arguments = {
        "output_size": output_size,
        "min_scale": 0.6,
        "fill_value": 0.5,
        "active": active,
        "seed": 3,
    }
    run_layer_harness(
        RandomResizeAndPad,
        arguments,
        X,
        tmp_path,
        call_kwargs={"training": active == "training"},
        random=True,
    )


def frames(placed):
    """Top, left, height and width of what is not fill in each image."""
    found = []
    for image in placed[..., 0]:
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        assert len(rows) == rows[-1] - rows[0] + 1
        found.append((rows[0], columns[0], len(rows), len(columns)))
    return np.array(found)


def test_every_size_and_place_is_drawn_and_no_other():
    layer = RandomResizeAndPad(min_scale=0.5, seed=1)
    found = frames(np.asarray(layer(np.ones((4000, 8, 8, 1), "float32"))))
    assert set(found[:, 2]) == {4, 5, 6, 7, 8}
    assert np.array_equal(found[:, 2], found[:, 3])
    for size in (4, 5, 6, 7, 8):
        chosen = found[found[:, 2] == size]
        tops = np.bincount(chosen[:, 0], minlength=9 - size)
        assert len(tops) == 9 - size
        # Uniform over the places: five standard deviations of each count.
        expected = len(chosen) / len(tops)
        assert np.abs(tops - expected).max() < 5 * expected**0.5 + 1
        if size < 8:
            assert not np.array_equal(chosen[:, 0], chosen[:, 1])


def test_resizing_equals_slow_bilinear_interpolation():
    layer = RandomResizeAndPad(output_size=(13, 9), min_scale=0.7, fill_value=-1.0, seed=4)
    placed = np.asarray(layer(X))
    for image, result in zip(X, placed, strict=True):
        inside = np.argwhere((result != -1.0).all(axis=-1))
        (top, left), (bottom, right) = inside.min(axis=0), inside.max(axis=0)
        height, width = bottom - top + 1, right - left + 1
        assert 9 <= height <= 13
        assert 6 <= width <= 9
        for row in range(height):
            for column in range(width):
                y = np.clip((row + 0.5) * 8 / height - 0.5, 0, 7)
                x = np.clip((column + 0.5) * 10 / width - 0.5, 0, 9)
                y0, x0 = int(y), int(x)
                y1, x1 = min(y0 + 1, 7), min(x0 + 1, 9)
                expected = (
                    image[y0, x0] * (1 - y + y0) * (1 - x + x0)
                    + image[y1, x0] * (y - y0) * (1 - x + x0)
                    + image[y0, x1] * (1 - y + y0) * (x - x0)
                    + image[y1, x1] * (y - y0) * (x - x0)
                )
                np.testing.assert_allclose(result[top + row, left + column], expected, atol=1e-5)


def test_full_scale_is_the_identity_and_a_quiet_layer_fills_the_output():
    assert np.allclose(np.asarray(RandomResizeAndPad(min_scale=1.0)(X)), X, atol=1e-6)
    assert np.array_equal(np.asarray(RandomResizeAndPad(min_scale=0.5)(X, training=True)), X)
    larger = RandomResizeAndPad(output_size=16, min_scale=0.5)(X, training=True)
    expected = keras.ops.image.resize(X, (16, 16), interpolation="bilinear")
    np.testing.assert_allclose(np.asarray(larger), np.asarray(expected), atol=1e-5)


def test_draws_differ_by_example_and_call_and_a_seed_repeats_them():
    def twice(seed):
        layer = RandomResizeAndPad(min_scale=0.5, seed=seed)
        same = np.repeat(X[:1], 16, axis=0)
        return np.asarray(layer(same)), np.asarray(layer(same))

    first, second = twice(5)
    assert len(np.unique(first.reshape(16, -1), axis=0)) > 4
    assert not np.array_equal(first, second)
    assert np.array_equal(twice(5), (first, second))
    assert not np.array_equal(twice(6)[0], first)


def test_gradient_is_that_of_the_draw():
    weights = np.random.default_rng(1).normal(size=X.shape).astype("float32")

    def once(x):
        return keras.ops.sum(weights * RandomResizeAndPad(min_scale=0.5, seed=2)(x))

    _, gradient = backend.input_gradient(once, X)
    direction = np.random.default_rng(2).normal(size=X.shape).astype("float32")
    change = float(once(X + direction)) - float(once(X))
    np.testing.assert_allclose(change, (np.asarray(gradient) * direction).sum(), rtol=1e-3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"output_size": 0}, "output_size"),
        ({"output_size": (3, 4, 5)}, "output_size"),
        ({"min_scale": 0}, "above 0"),
        ({"min_scale": 1.1}, "at most 1"),
        ({"fill_value": float("nan")}, "finite"),
        ({"active": "never"}, "active='never'"),
    ],
)
def test_wrong_arguments_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        RandomResizeAndPad(**wrong)


def test_what_is_no_image_is_refused():
    with pytest.raises(InputError, match="expected images"):
        RandomResizeAndPad()(np.zeros((2, 5), "float32"))
