import keras
import numpy as np
import pytest

from keras_secure.errors import InputError
from keras_secure.watermark import SpreadSpectrum, Uchida, embed, verify


def model_of(*widths, dtype="float32"):
    keras.utils.set_random_seed(5)
    stack = [keras.layers.Dense(width, name=f"layer{n}") for n, width in enumerate(widths)]
    return keras.Sequential([keras.Input((64,)), *stack], name="small")


def test_a_finished_model_is_marked_without_data():
    model = model_of(64, 96, 10)
    before = [weight.copy() for weight in model.get_weights()]
    mark = SpreadSpectrum("key", payload=2026)
    done = embed(model, mark)
    assert [one.name for one in done] == ["layer0/kernel", "layer1/kernel"]
    assert [one.bit_errors for one in done] == [0, 0]
    after = model.get_weights()
    for one, place in zip(done, (0, 2), strict=True):
        change = np.linalg.norm(after[place] - before[place]) / np.linalg.norm(before[place])
        assert one.moved == pytest.approx(change, rel=1e-3)
        assert 0.15 < one.moved < 0.4
    for place in (1, 3, 4, 5):
        np.testing.assert_array_equal(after[place], before[place])
    report = verify(model, mark)
    assert (report.verdict, report.payload) == ("proved", f"{2026:016x}")
    again = embed(model, mark)
    assert max(one.moved for one in again) < 1e-4, "what is marked already is left alone"


def test_every_bit_has_its_margin_and_no_more_than_it_needs():
    mark = SpreadSpectrum("key", num_bits=32, margin=2.5)
    values = np.random.default_rng(0).normal(0.1, 1, (32, 64))
    moved = mark.nearest(values)
    signs = 2 * mark.message() - 1
    held = signs * mark.scores(moved)
    assert held.min() >= 2.5
    had = signs * mark.scores(values)
    assert np.all(held[had < 2.4] < 2.52), "bits that fell short are lifted to the margin"
    assert np.all(np.abs(held[had > 2.6] / had[had > 2.6] - 1) < 0.1), "the others stay, but scale"


def test_the_change_is_the_least_that_there_is():
    """Against a general solver of the same problem, at the scale that the result has."""
    from scipy.optimize import minimize

    mark = SpreadSpectrum("key", num_bits=4, margin=1.4)
    values = np.random.default_rng(1).normal(size=(8, 8))
    moved = mark.nearest(values)
    scale = np.sqrt(np.mean(moved**2))
    carrier, shares = mark._carrier(values.shape, 0)
    signs = 2.0 * mark.message() - 1
    rows = np.array([np.where(shares == bit, carrier, 0) for bit in range(4)], "float64")
    solved = minimize(
        lambda w: np.sum((w - values.ravel()) ** 2),
        values.ravel(),
        jac=lambda w: 2 * (w - values.ravel()),
        constraints={
            "type": "ineq",
            "fun": lambda w: signs * (rows @ w) / scale - 1.4,
            "jac": lambda w: signs[:, None] * rows / scale,
        },
        method="SLSQP",
    )
    assert solved.success
    least = np.linalg.norm(solved.x - values.ravel())
    assert least < np.linalg.norm(moved - values) < 1.01 * least


def test_uchida_s_bits_are_reached_by_moving_the_mean_filter_alone():
    mark = Uchida("key", num_bits=32)
    values = np.random.default_rng(0).normal(0, 0.1, (3, 3, 16, 8))
    moved = mark.nearest(values)
    assert (mark.scores(moved) * (2 * mark.message() - 1)).min() >= 4.0
    change = moved - values
    np.testing.assert_allclose(change, np.broadcast_to(change[..., :1], change.shape), atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_weights_of_other_types(dtype):
    layer = keras.layers.Dense(64, dtype=dtype)
    layer.build((None, 64))
    mark = SpreadSpectrum("key")
    (done,) = embed(layer, mark)
    assert done.bit_errors == 0
    assert verify(layer, mark).verdict == "proved"


def test_weights_of_zeros_can_be_marked():
    layer = keras.layers.Dense(64, kernel_initializer="zeros")
    layer.build((None, 64))
    mark = SpreadSpectrum("key")
    (done,) = embed(layer, mark)
    assert done.bit_errors == 0
    assert done.moved == 1.0
    assert np.abs(keras.ops.convert_to_numpy(layer.kernel)).max() < 0.01


def test_weights_that_are_no_numbers_are_left_alone():
    model = model_of(64, 64)
    kernel = model.get_weights()[0]
    kernel[3, 4] = np.nan
    model.set_weights([kernel, *model.get_weights()[1:]])
    with pytest.raises(InputError, match="no finite numbers"):
        embed(model, SpreadSpectrum("key"))
    np.testing.assert_array_equal(model.get_weights()[0], kernel)


def test_what_is_quantized_is_embedded_before():
    model = model_of(64, 64)
    model.quantize("int8")
    with pytest.raises(InputError, match="embed it first, and quantize then"):
        embed(model, SpreadSpectrum("key"))


def test_what_cannot_be_embedded_changes_nothing():
    model = model_of(64, 10)
    before = model.get_weights()
    for target, mark, layers, message in [
        (model, SpreadSpectrum("key"), ["layer0", "layer1"], "need 2048"),
        (model, SpreadSpectrum("key"), "layer7", "no layer or weight 'layer7'"),
        (model, SpreadSpectrum.from_config(SpreadSpectrum("k").get_config()), None, "its key"),
        (np.zeros((64, 64)), SpreadSpectrum("key"), None, "would be lost"),
        (model, keras.regularizers.L2(), None, "cannot be embedded"),
    ]:
        with pytest.raises(InputError, match=message):
            embed(target, mark, layers)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_mark_outlives_what_is_done_to_weights():
    """Two dense layers stand in for a model; the benchmark does all of it to real ones."""
    model = model_of(256, 256)
    mark = SpreadSpectrum("key")
    embed(model, mark)
    rng = np.random.default_rng(3)
    kernel = model.get_layer("layer1").kernel
    values = keras.ops.convert_to_numpy(kernel)
    size = np.abs(values)
    step = size.max() / 7
    other = SpreadSpectrum("thief").nearest(SpreadSpectrum("another thief").nearest(values, 0), 0)
    for changed in (
        np.where(size < np.quantile(size, 0.95), 0, values),
        np.round(values / step) * step,
        values + rng.normal(0, values.std(), values.shape),
        100 * values,
        other,
    ):
        kernel.assign(changed)
        assert verify(model, mark, layers="layer1").verdict == "proved"
    kernel.assign(rng.permutation(values.ravel()).reshape(values.shape))
    assert verify(model, mark, layers="layer1").verdict == "refuted"
    assert verify(model, mark).verdict == "proved", "the other layer still reads"
