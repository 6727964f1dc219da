"""Rotation and translation: the picture is the right one, and so is what is said of its size."""

import json
import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_secure import backend
from keras_secure.attacks import Spatial
from keras_secure.attacks.spatial import rotate_and_shift
from keras_secure.errors import InputError


def slow_render(image, angle, down, right, fill):
    """Pixel by pixel and tap by tap."""
    height, width = image.shape[:2]
    result = np.full_like(image, fill, dtype="float64")
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    for i in range(height):
        for j in range(width):
            r, c = i - middle[0] - down, j - middle[1] - right
            row = middle[0] + math.cos(angle) * r - math.sin(angle) * c
            column = middle[1] + math.sin(angle) * r + math.cos(angle) * c
            total = np.zeros(image.shape[2:])
            for a in (math.floor(row), math.floor(row) + 1):
                for b in (math.floor(column), math.floor(column) + 1):
                    weight = (1 - abs(row - a)) * (1 - abs(column - b))
                    inside = 0 <= a < height and 0 <= b < width
                    total = total + weight * (image[a, b] if inside else fill)
            result[i, j] = total
    return result


@pytest.mark.parametrize("shape", [(7, 7, 3), (6, 9, 1), (5, 8)])
def test_every_pixel_is_the_right_one(shape):
    rng = np.random.default_rng(0)
    images = rng.random((4, *shape)).astype("float32")
    angles = rng.uniform(-1, 1, 4).astype("float32")
    down, right = rng.uniform(-3, 3, (2, 4)).astype("float32")
    render = backend.compiled(
        lambda *arguments: rotate_and_shift(*arguments, 0.25), jit_compile=True
    )
    found = np.asarray(render(images, angles, down, right))
    for i, image in enumerate(images):
        expected = slow_render(image, float(angles[i]), float(down[i]), float(right[i]), 0.25)
        np.testing.assert_allclose(found[i], expected, atol=1e-5)


def test_directions_are_as_documented():
    image = np.zeros((1, 5, 5), "float32")
    image[0, 2, 4] = 1.0  # to the right of the centre
    one, none = np.ones(1, "float32"), np.zeros(1, "float32")
    quarter = np.full(1, math.pi / 2, "float32")
    turned = np.asarray(rotate_and_shift(image, quarter, none, none))
    assert np.unravel_index(turned[0].argmax(), (5, 5)) == (4, 2)  # clockwise: below it
    moved = np.asarray(rotate_and_shift(image, none, one, -one))
    assert np.unravel_index(moved[0].argmax(), (5, 5)) == (3, 3)
    np.testing.assert_array_equal(rotate_and_shift(image, none, none, none), image)


def test_channels_first():
    images = np.random.default_rng(0).random((2, 6, 6, 3)).astype("float32")
    angles, shifts = np.array([0.3, -0.5], "float32"), np.array([1.0, -1.5], "float32")
    expected = np.asarray(rotate_and_shift(images, angles, shifts, shifts))
    keras.config.set_image_data_format("channels_first")
    try:
        found = rotate_and_shift(images.transpose(0, 3, 1, 2), angles, shifts, shifts)
    finally:
        keras.config.set_image_data_format("channels_last")
    np.testing.assert_allclose(np.asarray(found).transpose(0, 2, 3, 1), expected, atol=1e-6)


def corner_model():
    """Class 1 where the first column is bright."""
    kernel = np.zeros((8, 8))
    kernel[:, 0] = 1.0
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    model.set_weights([kernel.reshape(-1, 1), np.array([-1.0])])
    return model


def bar(column):
    x = np.zeros((1, 8, 8, 1), "float32")
    x[:, :, column] = 1.0
    return x


def test_the_smallest_transformation_of_the_grid_is_found_and_told():
    model = corner_model()
    attack = Spatial(max_rotation=0, max_shift=4, num_shifts=9)
    for column in (1, 2, 3):
        result = attack.run(model, bar(column), [0], verbose=0)
        assert result.success[0]
        assert result.distance[0] == pytest.approx(column / 4)
        assert np.asarray(model(result.x_adv))[0, 0] > 0
    # Half the range reaches two pixels, not three, and in finer steps: one and a half will do.
    half = [attack.run(model, bar(c), [0], epsilon=0.5, verbose=0) for c in (2, 3)]
    assert [run.success[0] for run in half] == [True, False]
    assert half[0].distance[0] == pytest.approx(1.5 / 4)
    still = attack.run(model, bar(0), [0], verbose=0)
    assert still.success[0]
    assert still.distance[0] == 0
    none = attack.run(model, bar(2), [0], epsilon=0.0, verbose=0)
    assert not none.success[0]


def test_random_search_draws_from_the_whole_range():
    model = corner_model()
    attack = Spatial(search="random", draws=60, seed=0, max_rotation=20, max_shift=3)
    x = np.repeat(bar(2), 40, axis=0)
    y = np.zeros(40, int)
    result = attack.run(model, x, y, verbose=0)
    again = attack.run(model, x, y, batch_size=7, verbose=0)
    np.testing.assert_allclose(result.x_adv, again.x_adv, atol=1e-5)
    assert result.success.mean() > 0.9
    assert result.distance.max() <= 1
    assert result.distance[result.success].min() > 0.3  # one pixel and a half, at least
    assert result.x_adv.min() >= 0
    assert result.x_adv.max() <= 1
    answers = np.asarray(model(result.x_adv))[:, 0] > 0
    np.testing.assert_array_equal(answers, result.success)


def test_in_training_it_is_the_worst_of_its_tries():
    model = corner_model()
    attack = Spatial(search="random", draws=20, seed=0, max_rotation=0)
    step = backend.compiled(lambda x, y: attack.perturb(model, x, y), jit_compile=True)
    x = ops.convert_to_tensor(np.repeat(bar(2), 4, axis=0))
    x_adv = step(x, ops.convert_to_tensor([0, 0, 0, 0]))
    assert (np.asarray(model(x_adv)) > np.asarray(model(x))).all()


def test_it_serializes():
    attack = Spatial(0.5, max_rotation=10, search="random", draws=3, seed=4)
    config = attack.get_config()
    assert json.loads(json.dumps(config)) == config
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(attack))
    assert revived.get_config() == config
    assert revived.norm == "spatial"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Spatial(max_rotation=-1), "max_rotation"),
        (lambda: Spatial(max_rotation=0, max_shift=0), "nothing to try"),
        (lambda: Spatial(search="descent"), "grid, random"),
        (lambda: Spatial(num_shifts=0), "num_shifts"),
        (lambda: Spatial(fill=2.0), "fill"),
        (lambda: Spatial(None), "epsilon"),
    ],
)
def test_arguments_are_checked(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_what_is_no_image_is_refused():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(InputError, match="height, width"):
        Spatial().run(model, np.zeros((1, 4), "float32"), [0], verbose=0)
