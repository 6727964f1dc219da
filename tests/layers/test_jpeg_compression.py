import io

import keras
import numpy as np
import pytest
from harness_layers import run_layer_harness

from keras_secure import backend
from keras_secure.errors import InputError
from keras_secure.layers import JPEGCompression
from keras_secure.layers.jpeg_compression import _BRIGHTNESS, _COLOUR, quantization_steps
from keras_secure.layers.rounding import rounded


def picture(height, width, channels, seed=0):
    """Smooth waves, an edge and some noise, as bytes."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width] / 9.0
    waves = [
        np.sin(rows * rng.uniform(0.3, 2) + columns * rng.uniform(0.3, 2) + channel)
        for channel in range(channels)
    ]
    image = np.stack(waves, axis=-1) * 80 + 128
    image[: height // 2, : width // 3] += 60
    image += rng.normal(0, 6, image.shape)
    return np.clip(np.round(image), 0, 255).astype("uint8")


@pytest.mark.parametrize("channels", [1, 3])
def test_harness(channels, tmp_path):
    x = np.random.default_rng(0).random((3, 10, 18, channels)).astype("float32")
    # Where a value lies in the middle between two levels, compilers may round either way.
    x = np.round(x * 16) / 16
    arguments = {
        "quality": 40,
        "bounds": [0.0, 1.0],
        "chroma_subsampling": True,
        "gradient": "cubic" if channels == 1 else "straight_through",
    }
    run_layer_harness(JPEGCompression, arguments, x, tmp_path, atol=0.08)


@pytest.mark.parametrize("quality", [10, 50, 75, 95])
@pytest.mark.parametrize(
    ("channels", "subsampling"), [(1, True), (3, True), (3, False)], ids=["grey", "420", "444"]
)
def test_agrees_with_pillow(quality, channels, subsampling):
    pillow = pytest.importorskip("PIL.Image")
    levels, change = [], []
    for height, width in ((32, 48), (29, 37)):
        image = picture(height, width, channels)
        stream = io.BytesIO()
        source = pillow.fromarray(image[..., 0] if channels == 1 else image)
        options = {} if channels == 1 else {"subsampling": 2 if subsampling else 0}
        source.save(stream, "JPEG", quality=quality, **options)
        decoded = np.asarray(pillow.open(stream)).reshape(image.shape).astype(int)
        layer = JPEGCompression(quality, bounds=(0, 255), chroma_subsampling=subsampling)
        ours = np.asarray(layer(image[None].astype("float32")))[0]
        levels.append(np.abs(ours - decoded).ravel())
        change.append(np.abs(decoded - image.astype(int)).ravel())
    levels, change = np.concatenate(levels), np.concatenate(change)
    # The codec computes in integers, so where steps are small, coefficients fall to the other side
    # of a threshold now and then, and on the way back blue takes 1.8 times the error of a colour.
    assert levels.mean() < (0.5 if channels == 1 else 1.1)
    assert levels.mean() < 0.4 * change.mean()
    assert np.quantile(levels, 0.99) <= 6


def test_grey_equals_a_slow_transform():
    image = picture(16, 24, 1)
    steps = quantization_steps(_BRIGHTNESS, 30)
    expected = np.zeros((16, 24))
    for top in range(0, 16, 8):
        for left in range(0, 24, 8):
            block = image[top : top + 8, left : left + 8, 0] - 128.0
            restored = np.zeros((8, 8))
            for u in range(8):
                for v in range(8):
                    basis = np.array(
                        [
                            [
                                np.cos((2 * i + 1) * u * np.pi / 16)
                                * np.cos((2 * j + 1) * v * np.pi / 16)
                                for j in range(8)
                            ]
                            for i in range(8)
                        ]
                    )
                    scale = (0.5**0.5 if u == 0 else 1) * (0.5**0.5 if v == 0 else 1) / 4
                    level = np.round(scale * (block * basis).sum() / steps[u, v])
                    restored += scale * level * steps[u, v] * basis
            expected[top : top + 8, left : left + 8] = restored
    expected = np.clip(np.round(expected + 128.0), 0, 255)
    ours = np.asarray(JPEGCompression(30, bounds=(0, 255))(image[None].astype("float32")))
    assert (np.abs(ours[0, ..., 0] - expected) <= 1).all()
    assert (ours[0, ..., 0] == expected).mean() > 0.99


def test_steps_are_those_of_the_format():
    assert quantization_steps(_BRIGHTNESS, 50)[0].tolist() == [16, 11, 10, 16, 24, 40, 51, 61]
    assert quantization_steps(_BRIGHTNESS, 50)[7].tolist() == [72, 92, 95, 98, 112, 100, 103, 99]
    assert (quantization_steps(_COLOUR, 100) == 1).all()
    assert quantization_steps(_COLOUR, 1).max() == 255
    pillow = pytest.importorskip("PIL.Image")
    for quality in (5, 33, 50, 80):
        stream = io.BytesIO()
        pillow.fromarray(picture(16, 16, 3)).save(stream, "JPEG", quality=quality)
        tables = pillow.open(stream).quantization
        for number, table in ((0, _BRIGHTNESS), (1, _COLOUR)):
            ours = quantization_steps(table, quality)
            assert sorted(ours.ravel()) == sorted(tables[number])


def gradient_of(layer, x, weights):
    _, gradient = backend.input_gradient(lambda t: keras.ops.sum(weights * layer(t)), x)
    return np.asarray(gradient)


def test_straight_through_gradient_is_the_identity_without_colour():
    x = picture(16, 16, 1)[None].astype("float32").clip(60, 190) / 255
    weights = np.random.default_rng(1).normal(size=x.shape).astype("float32")
    np.testing.assert_allclose(gradient_of(JPEGCompression(90), x, weights), weights, atol=1e-4)


def test_straight_through_gradient_is_that_of_the_pipeline_without_rounding():
    """With colour at half the resolution the pipeline is linear, and its gradient is its own."""
    rng = np.random.default_rng(2)
    x = 0.5 + 0.1 * rng.normal(size=(1, 16, 16, 3))
    layer = JPEGCompression(95, dtype="float64")
    weights = rng.normal(size=x.shape)
    gradient = gradient_of(layer, x, weights)
    # A linear map changes sums as much in a direction as the gradient says, at any distance.
    direction = rng.normal(size=x.shape) * 0.1
    change = np.asarray(layer(x + direction)) - np.asarray(layer(x))
    np.testing.assert_allclose((weights * change).sum(), (gradient * direction).sum(), rtol=0.2)


def test_cubic_gradient_is_that_of_its_formula():
    x = np.array([[-1.3, 0.0, 0.25, 0.49, 2.6]])
    value, gradient = backend.input_gradient(lambda t: keras.ops.sum(rounded(t, "cubic")), x)
    np.testing.assert_allclose(np.asarray(gradient), 3 * (x - np.round(x)) ** 2, atol=1e-6)
    assert float(value) == -1.0 + 0 + 0 + 0 + 3.0


def test_values_do_not_depend_on_the_gradient_and_the_cubic_one_leads_somewhere():
    x = picture(16, 16, 3)[None].astype("float32") / 255
    through, cubic = JPEGCompression(50), JPEGCompression(50, gradient="cubic")
    np.testing.assert_allclose(np.asarray(through(x)), np.asarray(cubic(x)), atol=1e-6)
    weights = np.random.default_rng(1).normal(size=x.shape).astype("float32")
    assert (gradient_of(cubic, x, weights) != 0).mean() > 0.9
    assert not np.allclose(
        gradient_of(cubic, x, weights), gradient_of(through, x, weights), atol=1e-3
    )


def test_lower_quality_loses_more():
    x = picture(32, 32, 1)[None].astype("float32") / 255
    lost = [np.abs(np.asarray(JPEGCompression(quality)(x)) - x).mean() for quality in (5, 40, 95)]
    assert lost[0] > 1.5 * lost[1] > 3 * lost[2]


def test_other_bounds_are_the_same_compression():
    x = picture(16, 16, 3)[None].astype("float32")
    bytes_ = np.asarray(JPEGCompression(60, bounds=(0, 255))(x))
    signed = np.asarray(JPEGCompression(60, bounds=(-1, 1))(x / 127.5 - 1))
    assert np.abs((signed + 1) * 127.5 - bytes_).mean() < 0.05


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"quality": 0}, "from 1 to 100"),
        ({"quality": 101}, "from 1 to 100"),
        ({"quality": 50.0}, "from 1 to 100"),
        ({"bounds": (1, 0)}, "low < high"),
        ({"gradient": "exact"}, "cubic"),
    ],
)
def test_wrong_arguments_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        JPEGCompression(**wrong)


@pytest.mark.parametrize("shape", [(2, 8, 8, 2), (2, 8, 8), (2, 64)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(InputError, match="1 or 3 channels"):
        JPEGCompression()(np.zeros(shape, "float32"))
