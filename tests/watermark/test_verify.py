from fractions import Fraction

import keras
import numpy as np
import pytest

from keras_secure.errors import InputError
from keras_secure.watermark import SpreadSpectrum, Uchida, verify
from keras_secure.watermark.report import matching_probability


def weight(shape=(64, 64), seed=0):
    return np.random.default_rng(seed).normal(0.02, 0.1, shape).astype("float32")


def test_the_tail_is_exact():
    from scipy import stats

    assert matching_probability(64, 64) == Fraction(1, 2**64)
    assert matching_probability(0, 64) == 1
    for matches in (0, 20, 32, 45, 64):
        np.testing.assert_allclose(
            float(matching_probability(matches, 64)), stats.binom.sf(matches - 1, 64, 0.5)
        )
    assert float(matching_probability(1000, 1000)) == 2.0**-1000


def embedded(mark, shape=(64, 64)):
    """A weight that carries the mark, made without training: along the secret's own direction."""
    values = weight(shape)
    layer = keras.layers.Dense(shape[1], kernel_regularizer=mark, use_bias=False)
    model = keras.Sequential([keras.Input((shape[0],)), layer])
    layer.kernel.assign(values)
    model.compile(keras.optimizers.Adam(0.01), loss=lambda y, p: 0.0 * keras.ops.sum(p))
    x, y = np.zeros((1, shape[0])), np.zeros((1, shape[1]))
    for _ in range(60):
        model.train_on_batch(x, y)
    return layer, model


@pytest.mark.parametrize("scheme", [SpreadSpectrum, Uchida])
def test_every_kind_of_target(scheme):
    mark = scheme("key", message="12345678")
    layer, model = embedded(mark)
    for target, where in [
        (layer, None),
        (layer.kernel, None),
        (keras.ops.convert_to_numpy(layer.kernel), None),
        (model, layer.name),
    ]:
        report = verify(target, mark, layers=where)
        assert report.message_matches
        assert (report.num_bits, report.bit_errors, report.bit_error_rate) == (64, 0, 0.0)
        assert report.p_value == 2.0**-64
    assert report.to_dict()["message_matches"] is True
    assert verify(layer, scheme("key", message="12345679")).bit_errors == 1
    assert verify(layer, scheme("other", message="12345678")).p_value > 1e-4


def test_a_key_alone_means_spread_spectrum():
    layer, _ = embedded(SpreadSpectrum("key"))
    assert verify(layer, "key") == verify(layer, b"key") == verify(layer, SpreadSpectrum("key"))
    assert verify(layer, "key").num_bits == 256
    assert verify(layer, "key").message_matches


@pytest.mark.parametrize("scheme", [SpreadSpectrum, Uchida])
@pytest.mark.parametrize("options", [{"num_bits": 64}, {"message": [1] * 64}])
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_p_values_of_foreign_keys_are_uniform(scheme, options, offset):
    """Neither a chosen message nor a lopsided weight makes false claims likelier."""
    from scipy import stats

    values = weight() + offset
    errors = np.array(
        [verify(values, scheme(f"key {n}", **options)).bit_errors for n in range(200)]
    )
    # 200 keys of 64 fair coins each: the total and the spread are both pinned.
    assert stats.binomtest(int(errors.sum()), 200 * 64).pvalue > 1e-4
    spread = np.sum((errors - 32) ** 2) / 16
    assert 1e-4 < stats.chi2.sf(spread, 200) < 1 - 1e-4
    p_values = np.array([float(matching_probability(64 - int(e), 64)) for e in errors])
    assert (p_values <= 0.05).mean() <= 0.10
    assert p_values.min() > 1e-5, "no false positive"


def test_the_uniformity_test_would_catch_a_biased_verifier():
    from scipy import stats

    biased = np.random.default_rng(0).binomial(64, 0.47, 200)
    assert stats.binomtest(int(biased.sum()), 200 * 64).pvalue < 1e-4
    correlated = 2 * np.random.default_rng(0).binomial(32, 0.5, 200)
    assert stats.chi2.sf(np.sum((correlated - 32) ** 2) / 16, 200) < 1e-4


@pytest.mark.parametrize("scheme", [SpreadSpectrum, Uchida])
@pytest.mark.parametrize("fill", [0.0, np.nan])
@pytest.mark.parametrize("bit", [0, 1])
def test_a_weight_that_says_nothing_proves_nothing(scheme, fill, bit):
    values = np.full((64, 64), fill, "float32")
    report = verify(values, scheme("key", message=[bit] * 64))
    assert report.verdict == "failed"
    assert report.p_value == 1.0
    assert report.payload is None
    assert "all its values are zero or no numbers" in report.statement


def test_what_cannot_be_verified_is_refused():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(64, name="wide")])
    with pytest.raises(InputError, match=r"No weight .* wide/kernel \(4, 64\)"):
        verify(model, "key")
    with pytest.raises(InputError, match="its kernels are wide/kernel"):
        verify(model, "key", layers="narrow")
    with pytest.raises(InputError, match="layers of a"):
        verify(weight(), "key", layers="wide")
    with pytest.raises(InputError, match="need 2048"):
        verify(model, "key", layers="wide")
    with pytest.raises(InputError, match="tries=0"):
        verify(weight(), "key", tries=0)
    with pytest.raises(InputError, match="floating point"):
        verify(np.ones((64, 64), "int32"), "key")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_does_not_hide_the_mark(value):
    mark = SpreadSpectrum("key")
    marked = mark.nearest(weight())
    # An embedding's row that no input reads may hold anything.
    marked[7] = value
    report = verify(marked, mark)
    assert report.verdict == "proved"
    assert report.payload_matches


def test_a_score_of_zero_is_read_as_no_payload():
    # All shares but a few are zero, which must not be taken for the payload of zeros.
    mark = SpreadSpectrum("key")
    values = np.zeros((64, 64))
    values[0, :8] = 1.0
    report = verify(values, mark)
    assert report.payload is None
    assert report.other_payload_p_value == 1.0
