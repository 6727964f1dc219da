"""A saved model with our layers loads in a fresh process."""

import subprocess
import sys

import keras
import numpy as np

from keras_secure import layers

SCRIPT = """
import sys
import keras
import keras_secure.layers
import numpy as np

model = keras.models.load_model(sys.argv[1])
np.save(sys.argv[2], model.predict(np.load(sys.argv[3]), verbose=0))
"""


def test_loads_in_safe_mode_without_custom_objects_in_a_fresh_process(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.InputGuard(),
            layers.FeatureSqueezing(4),
            layers.GaussianNoise(0.1),
            layers.LaplaceNoise(0.1),
            layers.UniformNoise(0.1),
            keras.layers.GaussianNoise(0.1),
            keras.layers.Dense(3, activation="softmax"),
            layers.OutputGuard(round_to=3),
        ]
    )
    x = np.random.default_rng(0).uniform(-0.5, 1.5, (5, 6)).astype("float32")
    paths = [tmp_path / name for name in ("model.keras", "y.npy", "x.npy")]
    model.save(paths[0])
    np.save(paths[2], x)
    subprocess.run([sys.executable, "-c", SCRIPT, *map(str, paths)], check=True, timeout=300)
    np.testing.assert_allclose(np.load(paths[1]), model.predict(x, verbose=0), atol=1e-6)


def test_every_layer_is_exported():
    assert layers.__all__ == sorted(layers.__all__)
    for name in layers.__all__:
        cls = getattr(layers, name)
        assert issubclass(cls, keras.layers.Layer)
        assert keras.saving.get_registered_object(f"keras_secure>{name}") is cls
