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
    (variable,) = attach(model.get_layer("hidden"), mark)
    assert variable is model.get_layer("hidden").kernel
    (penalty,) = model.losses
    assert float(penalty) == pytest.approx(float(mark(variable)))
    model.compile("sgd", "mse")
    x, y = np.zeros((4, 32)), np.zeros((4, 2))
    assert model.evaluate(x, y, verbose=0) == pytest.approx(float(penalty))
    assert detach(model.get_layer("hidden"), mark) == [variable]
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
    assert attach(layer, SpreadSpectrum("key", num_bits=16))[0] is layer.embeddings


def test_what_cannot_be_marked_says_why():
    model = small_model()
    mark = SpreadSpectrum("key", num_bits=16)
    with pytest.raises(InputError, match="kernels are hidden/kernel, top/kernel"):
        attach(model, mark, layers="bottom")
    with pytest.raises(InputError, match=r"No weight .* top/kernel \(64, 2\)"):
        attach(model, SpreadSpectrum("key", margin=9.0))
    with pytest.raises(InputError, match="not built"):
        attach(keras.layers.Dense(3), mark)
    norm = keras.layers.BatchNormalization()
    norm.build((None, 4))
    with pytest.raises(InputError, match=r"no kernel.*gamma"):
        attach(norm, mark)
    with pytest.raises(InputError, match="no weight to train"):
        attach(np.zeros((64, 64)), mark)
    with pytest.raises(InputError, match="need 512"):
        attach(model.get_layer("top"), SpreadSpectrum("key", num_bits=64))
    with pytest.raises(InputError, match="names layers of a"):
        attach(model.get_layer("top"), mark, layers="top")
    with pytest.raises(InputError, match="cannot be attached"):
        attach(model.get_layer("hidden"), keras.regularizers.L2())
    with pytest.raises(InputError, match="without its key"):
        attach(model.get_layer("hidden"), SpreadSpectrum.from_config(mark.get_config()))
    model.get_layer("hidden").trainable = False
    with pytest.raises(InputError, match="frozen"):
        attach(model.get_layer("hidden"), mark)
    assert model.losses == []


def test_a_mark_spreads_over_the_layers_of_a_model():
    model = small_model()
    model.add(keras.layers.Dense(64, name="another"))
    model.add(keras.layers.Dense(64, name="third"))
    mark = SpreadSpectrum("key", num_bits=16)
    carrying = attach(model, mark)
    assert [variable.shape for variable in carrying] == [(32, 64), (64, 2), (2, 64), (64, 64)]
    assert len(model.losses) == 4
    assert detach(model) == carrying
    assert [v.shape for v in attach(model, mark, layers=["third", "hidden/kernel"])] == [
        (64, 64),
        (32, 64),
    ]
    with pytest.raises(InputError, match="already"):
        attach(model, mark, layers="third")
    assert len(model.losses) == 2, "what is refused changes nothing"


def test_weights_of_one_shape_have_carriers_of_their_own():
    model = keras.Sequential([keras.Input((64,))])
    for name in ("first", "second"):
        model.add(keras.layers.Dense(64, name=name, use_bias=False))
    mark = SpreadSpectrum("key", num_bits=16)
    attach(model, mark)
    model.get_layer("second").kernel.assign(model.get_layer("first").kernel)
    one, two = (float(loss) for loss in model.losses)
    assert one != pytest.approx(two)
    kernel = model.get_layer("first").kernel.value
    assert (one, two) == pytest.approx((float(mark.loss(kernel, 0)), float(mark.loss(kernel, 1))))


def test_all_weights_of_a_composite_layer_are_meant_by_its_name():
    inputs = keras.Input((6, 32))
    attention = keras.layers.MultiHeadAttention(4, 8, name="attention")
    model = keras.Model(inputs, attention(inputs, inputs))
    mark = SpreadSpectrum("key", num_bits=16)
    assert len(attach(model, mark, layers="attention")) == 4
    assert len(model.losses) == 4
    assert len({float(loss) for loss in model.losses}) == 4
    detach(model, mark)
    assert attach(model, mark, layers="attention/query")[0] is attention.query_dense.kernel


def test_frozen_layers_are_left_out_unless_they_are_asked_for():
    model = keras.Sequential([keras.Input((64,))])
    for name in ("first", "second"):
        model.add(keras.layers.Dense(64, name=name))
    model.get_layer("first").trainable = False
    mark = SpreadSpectrum("key", num_bits=16)
    assert attach(model, mark) == [model.get_layer("second").kernel]
    with pytest.raises(InputError, match="frozen"):
        attach(model, SpreadSpectrum("key"), layers="first")


def test_what_is_quantized_is_not_trained():
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64)])
    model.quantize("int8")
    with pytest.raises(InputError, match="no weight to train"):
        attach(model, SpreadSpectrum("key"))
    with pytest.raises(InputError, match="No such mark is attached"):
        detach(model)
