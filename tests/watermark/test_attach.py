import keras
import numpy as np
import pytest

from keras_secure.errors import InputError
from keras_secure.watermark import SpreadSpectrum, Uchida, attach, detach


def small_model(regularizer=None):
    return keras.Sequential(
        [
            keras.Input((32,)),
            keras.layers.Dense(64, kernel_regularizer=regularizer, name="hidden"),
            keras.layers.Dense(2, name="top"),
        ]
    )


def test_the_penalty_reaches_the_loss_and_leaves_it_again():
    model = small_model()
    mark = SpreadSpectrum("key", num_bits=16)
    variable = attach(model.get_layer("hidden"), mark)
    assert variable is model.get_layer("hidden").kernel
    (penalty,) = model.losses
    assert float(penalty) == pytest.approx(float(mark(variable)))
    model.compile("sgd", "mse")
    x, y = np.zeros((4, 32)), np.zeros((4, 2))
    assert model.evaluate(x, y, verbose=0) == pytest.approx(float(penalty))
    assert detach(model.get_layer("hidden"), mark) is variable
    assert model.losses == []
    assert variable.regularizer is None


def test_marks_add_up_with_the_layer_s_own_regularizer():
    own = keras.regularizers.L2(0.5)
    model = small_model(own)
    layer = model.get_layer("hidden")
    first, second = SpreadSpectrum("a", num_bits=16), Uchida("b", num_bits=16)
    attach(layer, first)
    attach(layer.kernel, second)
    parts = [float(part(layer.kernel.value)) for part in (own, first, second)]
    assert float(model.losses[0]) == pytest.approx(sum(parts), rel=1e-5)
    with pytest.raises(InputError, match=r"attached to .* already"):
        attach(layer, first)
    detach(layer, first)
    assert float(model.losses[0]) == pytest.approx(parts[0] + parts[2], rel=1e-5)
    with pytest.raises(InputError, match="none was taken off"):
        detach(layer, first)
    detach(layer, second)
    assert layer.kernel.regularizer is own
    with pytest.raises(InputError, match="none was taken off"):
        detach(layer)


def test_detach_takes_off_all_marks():
    layer = small_model().get_layer("hidden")
    for key in "ab":
        attach(layer, SpreadSpectrum(key, num_bits=16))
    detach(layer)
    assert layer.kernel.regularizer is None


def test_half_precision_variables_with_a_regularizer_of_their_own():
    layer = keras.layers.Dense(64, kernel_regularizer="l2", dtype="float16")
    model = keras.Sequential([keras.Input((32,)), layer])
    attach(layer, SpreadSpectrum("key", num_bits=16))
    model.compile("sgd", "mse")
    history = model.fit(np.zeros((4, 32)), np.zeros((4, 64)), verbose=0)
    assert np.isfinite(history.history["loss"][0])


def test_an_embedding_can_be_marked():
    layer = keras.layers.Embedding(100, 16)
    layer.build((None,))
    assert attach(layer, SpreadSpectrum("key", num_bits=16)) is layer.embeddings


def test_what_cannot_be_marked_says_why():
    model = small_model()
    mark = SpreadSpectrum("key", num_bits=16)
    with pytest.raises(InputError, match="hidden, top"):
        attach(model, mark)
    with pytest.raises(InputError, match="not built"):
        attach(keras.layers.Dense(3), mark)
    norm = keras.layers.BatchNormalization()
    norm.build((None, 4))
    with pytest.raises(InputError, match=r"no kernel.*gamma"):
        attach(norm, mark)
    with pytest.raises(InputError, match="no weight to mark"):
        attach(np.zeros((64, 64)), mark)
    with pytest.raises(InputError, match="need 256"):
        attach(model.get_layer("top"), mark)
    with pytest.raises(InputError, match="cannot be attached"):
        attach(model.get_layer("hidden"), keras.regularizers.L2())
    with pytest.raises(InputError, match="without its key"):
        attach(model.get_layer("hidden"), SpreadSpectrum.from_config(mark.get_config()))
    model.get_layer("hidden").trainable = False
    with pytest.raises(InputError, match="frozen"):
        attach(model.get_layer("hidden"), mark)
    assert model.losses == []
