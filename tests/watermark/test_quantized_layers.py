"""Marks are read from what `keras.Model.quantize` stores as integers."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_secure.integrity import generate_key_pair
from keras_secure.watermark import SpreadSpectrum, commit, embed, verify, verify_claim
from keras_secure.watermark.kernels import named_kernels
from keras_secure.watermark.quantized_layers import dequantized

MARK = SpreadSpectrum("a secret of thirty-two characters")


def text_model(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((12,)),
            layers.Embedding(100, 48, name="words"),
            layers.EinsumDense("abc,cde->abde", (None, 4, 16), "relu", "de", name="heads"),
            layers.EinsumDense("abcd,cde->abe", (None, 48), "relu", "e", name="joined"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(61, activation="relu", name="wide"),
        ]
    )


@pytest.mark.parametrize(("mode", "largest"), [("int8", 0.01), ("int4", 0.15)])
def test_kernels_are_what_they_were_up_to_rounding(mode, largest):
    model = text_model()
    before = {name: weight.numpy() for name, weight in named_kernels(model).items()}
    assert len(before) == 4
    model.quantize(mode)
    after = named_kernels(model)
    assert list(after) == list(before)
    for name, values in before.items():
        assert after[name].shape == values.shape
        assert np.abs(after[name] - values).max() < largest * np.abs(values).max(), name


def test_the_kernels_are_those_that_the_layers_compute_with():
    model = text_model()
    model.quantize("int8")
    wide = model.get_layer("wide")
    wide.enable_lora(2)
    wide.lora_kernel_b.assign(np.ones((2, 61)))
    kernel = named_kernels(model)["wide/kernel"]
    x = np.random.default_rng(0).normal(size=(8, 48)).astype("float32")
    expected = np.maximum(x @ kernel + wide.bias.numpy(), 0)
    # The layer rounds its inputs to 8 bits too.
    np.testing.assert_allclose(wide(x), expected, atol=0.05 * np.abs(expected).max())


def test_many_inputs_are_asked_some_at_a_time():
    layer = layers.Dense(2)
    model = keras.Sequential([keras.Input((2500,)), layer])
    before = layer.kernel.numpy()
    model.quantize("int8")
    (after,) = dequantized(model).values()
    np.testing.assert_allclose(after, before, atol=1e-3)


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_a_thief_who_quantizes_keeps_the_mark(mode):
    model = text_model()
    embed(model, MARK)
    private_key, public_key = generate_key_pair()
    commitment = commit(MARK, model, private_key)
    stolen = keras.models.clone_model(model)
    stolen.set_weights(model.get_weights())
    stolen.quantize(mode)
    report = verify(stolen, MARK)
    assert report.verdict == "proved"
    assert not report.not_compared
    assert len(report.readings) == 5
    assert max(reading.bit_errors for reading in report.readings) < 20
    assert verify_claim(stolen, commitment, MARK.key, public_key).verdict == "proved"
    assert verify(stolen, "another secret").verdict == "refuted"


def test_what_cannot_be_told_is_left_out():
    class Own(layers.Dense):
        def call(self, inputs):
            return super().call(2 * inputs)

    model = keras.Sequential([keras.Input((64,)), Own(64), layers.Dense(64, name="known")])
    model.quantize("int8", type_check=False)
    assert list(named_kernels(model)) in (["known/kernel"], ["own/kernel", "known/kernel"])
