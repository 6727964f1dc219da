"""The whole way: embed while training on real data, attack the weight, save, prove."""

import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

from keras_secure.watermark import SpreadSpectrum, Uchida, attach, verify

SECRET = "a key nobody guesses"
MESSAGE = "(c) us, "
MARKS = {
    "spread": lambda: SpreadSpectrum(SECRET, message=MESSAGE),
    "uchida": lambda: Uchida(SECRET, message=MESSAGE, strength=0.05),
}


def train(digits, mark=None):
    x, y = digits
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu", name="hidden"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    if mark is not None:
        attach(model.get_layer("hidden"), mark)
    model.compile(
        keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(x[:1200], y[:1200], batch_size=64, epochs=12, verbose=0)
    return model, model.evaluate(x[1200:], y[1200:], verbose=0)[1]


@pytest.fixture(scope="module")
def plain(digits):
    return train(digits)


@pytest.fixture(scope="module", params=list(MARKS))
def marked(request, digits):
    mark = MARKS[request.param]()
    return (*train(digits, mark), mark)


def kernel(model):
    return keras.ops.convert_to_numpy(model.get_layer("hidden").kernel)


def test_the_mark_is_read_back_and_costs_little_accuracy(plain, marked):
    model, accuracy, mark = marked
    report = verify(model, mark, layers="hidden")
    assert report.bit_error_rate == 0.0
    assert report.p_value == 2.0**-64
    assert plain[1] > 0.9
    assert accuracy > plain[1] - 0.02


def test_the_unmarked_model_is_not_claimed(plain, marked):
    mark = marked[2]
    assert verify(plain[0], mark, layers="hidden").p_value > 1e-3


def test_other_keys_find_nothing_in_the_marked_model(marked):
    model, _, mark = marked
    reports = [verify(kernel(model), type(mark)(f"key {n}", message=MESSAGE)) for n in range(200)]
    errors = np.array([report.bit_error_rate for report in reports])
    assert abs(errors.mean() - 0.5) < 0.02
    assert min(report.p_value for report in reports) > 1e-5


def test_the_mark_survives_rounding_and_pruning(marked):
    model, _, mark = marked
    values = kernel(model)
    assert verify(values.astype("float16"), mark).message_matches
    pruned = np.where(np.abs(values) < np.quantile(np.abs(values), 0.2), 0, values)
    assert (pruned == 0).mean() > 0.19
    assert verify(pruned, mark).message_matches


def test_the_mark_survives_fine_tuning_without_it(marked, digits):
    model, _, mark = marked
    x, y = digits
    tuned = keras.models.clone_model(model)
    tuned.set_weights(model.get_weights())
    assert tuned.losses == [], "a clone carries no mark"
    tuned.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    tuned.fit(x[1200:1500], y[1200:1500], batch_size=32, epochs=1, verbose=0)
    assert not np.array_equal(kernel(tuned), kernel(model))
    assert verify(tuned, mark, layers="hidden").bit_errors <= 1


def test_destroying_the_weight_destroys_the_mark(marked):
    model, _, mark = marked
    noise = np.random.default_rng(0).normal(0, 10 * kernel(model).std(), (64, 64))
    assert verify(kernel(model) + noise, mark).bit_error_rate > 0.2


def test_the_saved_file_holds_no_secret_and_needs_no_library(marked, digits, tmp_path):
    model, _, mark = marked
    path = tmp_path / "model.keras"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        contents = b"".join(archive.read(name) for name in archive.namelist())
    secrets = {"key": SECRET.encode(), "message": MESSAGE.encode()}
    for part in mark._cache.values():
        for n, array in enumerate(part if isinstance(part, tuple) else (part,)):
            secrets[f"projection {n}"] = array.ravel()[:16].tobytes()
    assert len(secrets) >= 3
    for name, secret in secrets.items():
        assert secret not in contents, f"the {name} is in the saved file"
    assert b"keras_secure" not in contents
    assert type(mark).__name__.encode() not in contents
    np.save(tmp_path / "x.npy", digits[0][:8])
    code = (
        "import sys; sys.modules['keras_secure'] = None\n"
        "import keras, numpy as np\n"
        "model = keras.models.load_model('model.keras')\n"
        "np.save('y.npy', model.predict(np.load('x.npy'), verbose=0))\n"
        "assert model.losses == []\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True)
    expected = model.predict(digits[0][:8], verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, atol=1e-5)


@pytest.mark.parametrize("name", MARKS)
def test_a_mark_in_the_layer_s_config_comes_back_dormant(name, tmp_path):
    mark = MARKS[name]()
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(64, kernel_regularizer=mark, name="hidden")]
    )
    model.compile("sgd", "mse")
    model.fit(np.zeros((4, 64)), np.zeros((4, 64)), verbose=0)
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        contents = b"".join(archive.read(one) for one in archive.namelist())
    assert type(mark).__name__.encode() in contents
    assert SECRET.encode() not in contents
    assert MESSAGE.encode() not in contents
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("hidden").kernel_regularizer.dormant
    assert [float(loss) for loss in loaded.losses] == [0.0]
    attach(loaded.get_layer("hidden"), MARKS[name]())
    assert float(loaded.losses[0]) > 0
