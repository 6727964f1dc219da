import keras
import numpy as np

from keras_secure import backend
from keras_secure.export import constants, export_hardened, inspect


def test_large_weights_stay_variables(tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input((50,)), keras.layers.Dense(40, name="wide")])
    monkeypatch.setattr(constants, "LARGEST", 8000)
    large = export_hardened(model, tmp_path / "large")
    assert backend.load_served_model(str(large.saved_model), "serving_default")[1]
    monkeypatch.setattr(constants, "LARGEST", 8200)
    small = export_hardened(model, tmp_path / "small")
    assert not backend.load_served_model(str(small.saved_model), "serving_default")[1]
    for bundle in (large, small):
        (kernel,) = [w for name, w in inspect(bundle.path).weights.items() if "kernel" in name]
        np.testing.assert_array_equal(kernel.values, model.layers[0].kernel.numpy())


def test_weights_are_written_once_for_all_signatures(tmp_path):
    model = keras.Sequential([keras.Input((50,)), keras.layers.Dense(400, activation="softmax")])
    one = export_hardened(model, tmp_path / "one", signatures=())
    all_of_them = export_hardened(model, tmp_path / "all")
    assert len(all_of_them.card["signatures"]) == 4
    sizes = [(b.saved_model / "saved_model.pb").stat().st_size for b in (one, all_of_them)]
    assert sizes[0] > 50 * 400 * 4
    assert sizes[1] < sizes[0] + 60_000
