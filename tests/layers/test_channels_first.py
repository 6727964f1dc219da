"""Images whose channels come first are refused, not turned across their colours."""

import keras
import numpy as np
import pytest

from keras_secure.attacks import Spatial
from keras_secure.detection import FeatureSqueezingDetector, NeuralCleanse, layer_features
from keras_secure.errors import InputError
from keras_secure.layers import (
    DenoisingAutoencoder,
    JPEGCompression,
    MedianSmoothing,
    RandomResizeAndPad,
)


@pytest.fixture
def channels_first():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    yield np.random.default_rng(0).random((24, 3, 8, 3)).astype("float32")
    keras.config.set_image_data_format(before)


def classifier():
    return keras.Sequential([keras.Input((3, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])


@pytest.mark.parametrize(
    "use",
    [
        lambda x: MedianSmoothing(2)(x),
        lambda x: JPEGCompression(50)(x),
        lambda x: RandomResizeAndPad(active="always")(x),
        lambda x: DenoisingAutoencoder()(x),
        lambda x: Spatial().run(classifier(), x, np.zeros(24, int), verbose=0),
        lambda x: NeuralCleanse().inspect(classifier(), x),
        lambda x: FeatureSqueezingDetector(classifier()).fit(x),
        lambda x: layer_features(
            keras.Sequential([keras.Input(x.shape[1:]), keras.layers.ReLU(name="map")]), x, "map"
        ),
    ],
)
def test_what_reads_images_says_so(channels_first, use):
    with pytest.raises(InputError, match=r"channels_first.*set_image_data_format"):
        use(channels_first)


def test_vectors_have_no_channels(channels_first):
    assert DenoisingAutoencoder()(np.ones((2, 5), "float32")).shape == (2, 5)
